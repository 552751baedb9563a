"""product_key_topk: the k best of n*n product keys per token and head, from 2n sub-key scores."""

from memedit_kernels.product_key_topk.op import MAX_K, product_key_topk

__all__ = ["MAX_K", "product_key_topk"]
