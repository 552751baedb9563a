"""Where a row begins in a table: the one place where kernels multiply a row number (Triton code).

Imported by kernels only, so that Triton is loaded no earlier than they are.
"""

import triton
import triton.language as tl


@triton.jit
def row_start(row, stride):
    """Elements before a row, in int64 whatever the type of the row number: tables exceed 2^31 elements."""
    # Not row.to(): under the interpreter a loop's counter is an int.
    return tl.cast(row, tl.int64) * stride
