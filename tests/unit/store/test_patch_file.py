import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memedit.errors import StoreCorrupt, StoreError, StoreTooNew
from memedit.store import Owner, TablePatch, discriminants_of, encode_patch, read_patch, write_patch
from memedit.store.patch_file import sha256_of

# The folder of a test is shared by its examples on purpose: each example writes the file afresh.
shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def patch(factory):
    return factory.make_patch(
        factory.make_table((3, 9, 2**40), owners=(0, 1, -1)),
        factory.make_table(()),
        owners=(Owner("Zubr\u00f3wka", 0.4, ("a", "b")), Owner("\u05e9\u05dc\u05d5\u05dd", 0.25, ())),
        metadata={"torch": "2.13", "seed": "7", "layers": "9"},
    )


def test_a_patch_comes_back_as_it_was(tmp_path, patch):
    file = write_patch(tmp_path / "p.safetensors", patch)
    found = read_patch(file.path, sha256=file.sha256)
    for before, after in zip(patch.tables, found.tables, strict=True):
        for part in ("slots", "delta", "owners", "rows"):
            assert getattr(after, part).dtype == getattr(before, part).dtype
            assert getattr(after, part).shape == getattr(before, part).shape
            assert getattr(after, part).tobytes() == getattr(before, part).tobytes()
        # torch.from_numpy warns about arrays that cannot be written to.
        assert after.delta.flags.writeable
    assert found.owners == patch.owners
    assert found.metadata == patch.metadata
    assert file.num_bytes == file.path.stat().st_size
    assert list(tmp_path.iterdir()) == [file.path]


def test_equal_patches_give_equal_bytes_in_every_process(factory, patch):
    assert len({encode_patch(patch) for _ in range(20)}) == 1
    code = (
        "from edit_factory import *; from memedit.store.patch_file import *;"
        "print(sha256_of(encode_patch(make_patch(metadata={str(i): 'x' for i in range(9)}))))"
    )
    here = Path(__file__).parent
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    metadata = {str(i): "x" for i in range(9)}
    expected = sha256_of(encode_patch(factory.make_patch(metadata=metadata)))
    assert [run.strip() for run in runs] == [expected, expected]


def test_strided_arrays_are_written_by_value(tmp_path, factory):
    table = factory.make_table((1, 2, 3))
    strided = type(table)(table.slots, np.asfortranarray(table.delta), table.owners)
    assert encode_patch(factory.make_patch(strided)) == encode_patch(factory.make_patch(table))


def test_a_patch_is_written_the_same_however_it_holds_its_rows(factory):
    rows = np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0], [-0.0, 0.0]], dtype=np.float32)
    dense = TablePatch(np.array([1, 3, 4, 8]), rows, np.zeros(4, np.int64))
    shared = TablePatch(dense.slots, rows[[3, 1, 0, 0]], dense.owners, np.array([2, 1, 3, 0]))
    assert encode_patch(factory.make_patch(dense)) == encode_patch(factory.make_patch(shared))
    assert encode_patch(factory.make_patch(dense)) == encode_patch(
        factory.make_patch(dense.with_distinct_rows())
    )
    bits = TablePatch(dense.slots, np.abs(rows), dense.owners)
    assert encode_patch(factory.make_patch(dense)) != encode_patch(factory.make_patch(bits))


def test_a_subject_of_128_slots_takes_less_than_8_kb(tmp_path, factory):
    vector = np.random.default_rng(0).standard_normal((1, 576)).astype(np.float32)
    table = TablePatch(
        np.arange(128) * 7, vector, np.zeros(128, dtype=np.int64), np.zeros(128, dtype=np.int64)
    )
    file = write_patch(tmp_path / "p.safetensors", factory.make_patch(table))
    assert file.num_bytes < 8000
    assert read_patch(file.path).tables[0].same_as(table)


def old_file(path, table, owners):
    """What memedit wrote before rows were shared: format 1, a row for each slot, eight bytes a number."""
    tensors = {
        "table0.slots": table.slots,
        "table0.delta": table.dense_delta(),
        "table0.owners": table.owners,
        "owners.thresholds": np.array([owner.threshold for owner in owners], dtype=np.float32),
    }
    named = [{"subject": owner.subject, "fact_ids": list(owner.fact_ids)} for owner in owners]
    metadata = {"format": "memedit-patch", "format_version": "1", "owners": json.dumps(named), "seed": "7"}
    safetensors.numpy.save_file(tensors, path, metadata=metadata)


def test_a_file_of_format_1_is_read_and_written_anew(tmp_path, patch):
    rows = np.array([1, 0, 1])
    table = TablePatch(np.array([3, 9, 2**40]), patch.tables[0].delta[:2], np.array([0, 1, -1]), rows)
    old_file(tmp_path / "old.safetensors", table, patch.owners)
    found = read_patch(tmp_path / "old.safetensors")
    assert found.owners == patch.owners
    assert found.metadata == {"seed": "7"}
    assert found.tables[0].delta.tobytes() == table.dense_delta().tobytes()
    assert found.tables[0].rows.tolist() == [0, 1, 2]
    assert found.tables[0].same_as(table)
    file = write_patch(tmp_path / "new.safetensors", found)
    again = read_patch(file.path)
    assert again.tables[0].same_as(table)
    assert len(again.tables[0].delta) == 2
    assert (again.owners, again.metadata) == (found.owners, found.metadata)


def test_a_file_of_format_2_has_no_discriminants(tmp_path, patch):
    tensors, metadata = parts_of(write_patch(tmp_path / "new.safetensors", patch).path)
    del tensors["owners.discriminants"]
    metadata["format_version"] = "2"
    safetensors.numpy.save_file(tensors, tmp_path / "p.safetensors", metadata=metadata)
    found = read_patch(tmp_path / "p.safetensors")
    assert found.owners == patch.owners
    assert all(one.same_as(other) for one, other in zip(found.tables, patch.tables, strict=True))


def parts_of(path):
    with safetensors.safe_open(path, "numpy") as opened:
        return safetensors.numpy.load_file(path), opened.metadata()


def test_discriminants_come_back_to_the_bit(tmp_path, factory):
    numbers = np.array([0.25, -1.5, 3e-5, 0.1], dtype="<f2")
    owners = (Owner("Ada", 0.4, ("a",), numbers.tobytes()), Owner("Bob", 0.5))
    file = write_patch(tmp_path / "p.safetensors", factory.make_patch(owners=owners))
    found = read_patch(file.path)
    assert found.owners == owners
    assert discriminants_of(found.owners).tolist() == [numbers.tolist(), [0.0] * 4]
    # Zeros agree with everything, as nothing does.
    assert Owner("Bob", 0.5, (), bytes(8)) == Owner("Bob", 0.5)


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        (b"abc", "fp16 numbers"),
        (b"ab", "fp16 numbers"),
        (np.array([1, np.nan], dtype="<f2").tobytes(), "finite"),
    ],
)
def test_broken_discriminants_are_refused(told, wrong):
    with pytest.raises(ValueError, match=wrong):
        Owner("Ada", 0.4, (), told)


def test_discriminants_of_two_widths_are_refused(factory):
    owners = (Owner("Ada", 0.4, (), b"abcd"), Owner("Bob", 0.5, (), b"abcdef"))
    with pytest.raises(ValueError, match="one width"):
        factory.make_patch(owners=owners)


def test_format_1_has_no_short_numbers(tmp_path, patch):
    table = patch.tables[0]
    old_file(tmp_path / "p.safetensors", table, patch.owners)
    tensors = safetensors.numpy.load_file(tmp_path / "p.safetensors")
    with safetensors.safe_open(tmp_path / "p.safetensors", "numpy") as opened:
        metadata = opened.metadata()
    tensors["table0.owners"] = tensors["table0.owners"].astype(np.int32)
    safetensors.numpy.save_file(tensors, tmp_path / "p.safetensors", metadata=metadata)
    with pytest.raises(StoreCorrupt, match="owners must be a numpy array, int64"):
        read_patch(tmp_path / "p.safetensors")


def test_other_tools_can_read_a_patch(tmp_path, patch):
    file = write_patch(tmp_path / "p.safetensors", patch)
    with safetensors.safe_open(file.path, "numpy") as opened:
        assert opened.metadata()["format"] == "memedit-patch"
        assert opened.metadata()["seed"] == "7"
        assert json.loads(opened.metadata()["owners"])[0] == {
            "subject": "Zubr\u00f3wka",
            "fact_ids": ["a", "b"],
        }
        assert opened.get_tensor("table0.delta").tobytes() == patch.tables[0].delta.tobytes()


@shared_folder
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_is_always_found(tmp_path, patch, place, flip):
    path = tmp_path / "p.safetensors"
    payload = bytearray(encode_patch(patch))
    expected = sha256_of(bytes(payload))
    payload[int(place * len(payload))] ^= flip
    path.write_bytes(payload)
    with pytest.raises(StoreCorrupt) as caught:
        read_patch(path, sha256=expected)
    for part in (str(path), expected, sha256_of(bytes(payload))):
        assert part in str(caught.value)


@shared_folder
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused_even_where_its_digest_is_not_known(tmp_path, patch, share):
    path = tmp_path / "p.safetensors"
    payload = encode_patch(patch)
    path.write_bytes(payload[: int(share * len(payload))])
    with pytest.raises(StoreCorrupt, match="not a patch of memedit"):
        read_patch(path)
    with pytest.raises(StoreCorrupt, match="expected SHA-256"):
        read_patch(path, sha256=sha256_of(payload))


def test_a_missing_or_unreadable_file_says_so(tmp_path):
    with pytest.raises(StoreCorrupt, match="is missing: expected a file with SHA-256 abc"):
        read_patch(tmp_path / "gone.safetensors", sha256="abc")
    with pytest.raises(StoreError, match="cannot be read"):
        read_patch(tmp_path)


def valid_file():
    tensors = {
        "table0.slots": np.array([1, 2]),
        "table0.delta": np.ones((2, 3), dtype=np.float32),
        "table0.owners": np.array([0, -1], dtype=np.int32),
        "table0.rows": np.array([0, 1], dtype=np.int32),
        "owners.thresholds": np.array([0.5], dtype=np.float32),
        "owners.discriminants": np.array([[0.5, -0.25]], dtype=np.float16),
    }
    owners = json.dumps([{"subject": "Ada", "fact_ids": ["f"]}])
    return tensors, {"format": "memedit-patch", "format_version": "3", "owners": owners}


def test_the_valid_file_that_the_next_tests_spoil_is_read(tmp_path):
    tensors, metadata = valid_file()
    safetensors.numpy.save_file(tensors, tmp_path / "p.safetensors", metadata=metadata)
    boundary = np.array([0.5, -0.25], dtype="<f2").tobytes()
    assert read_patch(tmp_path / "p.safetensors").owners == (Owner("Ada", 0.5, ("f",), boundary),)


@pytest.mark.parametrize(
    "spoil",
    [
        {"table0.slots": np.array([2, 1])},
        {"table0.slots": np.array([1.0, 2.0])},
        {"table0.slots": np.array([1, 2], dtype=np.uint32)},
        {"table0.slots": np.array([1])},
        {"table0.delta": np.ones((2, 3))},
        {"table0.delta": np.ones(2, dtype=np.float32)},
        {"table0.delta": np.full((2, 3), np.nan, dtype=np.float32)},
        {"table0.owners": np.array([0, 1])},
        {"table0.owners": None},
        {"table0.rows": np.array([0, 2])},
        {"table0.rows": np.array([-1, 0], dtype=np.int32)},
        {"table0.rows": np.array([0])},
        {"table0.rows": np.array([0.0, 1.0], dtype=np.float32)},
        {"table0.rows": None},
        {"table1.slots": np.array([1])},
        {"code": np.array([1])},
        {"owners.thresholds": np.array([0.5, 0.5], dtype=np.float32)},
        {"owners.thresholds": np.array([np.inf], dtype=np.float32)},
        {"owners.thresholds": np.array([0.5])},
        {"owners.discriminants": np.zeros((2, 3), dtype=np.float16)},
        {"owners.discriminants": np.zeros(3, dtype=np.float16)},
        {"owners.discriminants": np.zeros((1, 3), dtype=np.float32)},
        {"owners.discriminants": np.full((1, 3), np.inf, dtype=np.float16)},
        {"owners.discriminants": np.ones((1, 1), dtype=np.float16)},
        {"owners.discriminants": None},
    ],
)
def test_wrong_tensors_are_refused(tmp_path, spoil):
    tensors, metadata = valid_file()
    changed = {name: value for name, value in {**tensors, **spoil}.items() if value is not None}
    safetensors.numpy.save_file(changed, tmp_path / "p.safetensors", metadata=metadata)
    with pytest.raises(StoreCorrupt, match="not a patch of memedit"):
        read_patch(tmp_path / "p.safetensors")


@pytest.mark.parametrize(
    "spoil",
    [
        {"format": "pt"},
        {"format_version": "one"},
        {"format_version": "0"},
        {"format_version": "1"},
        {"owners": "{"},
        {"owners": "[]"},
        {"owners": "[1]"},
        {"owners": '{"subject": 1}'},
        {"owners": '[{"subject": 1, "fact_ids": []}]'},
        {"owners": '[{"subject": "Ada", "fact_ids": [1]}]'},
        {"owners": '[{"subject": "Ada"}]'},
    ],
)
def test_wrong_metadata_is_refused(tmp_path, spoil):
    tensors, metadata = valid_file()
    safetensors.numpy.save_file(tensors, tmp_path / "p.safetensors", metadata={**metadata, **spoil})
    with pytest.raises(StoreCorrupt, match="not a patch of memedit"):
        read_patch(tmp_path / "p.safetensors")


def test_a_safetensors_file_without_metadata_is_refused(tmp_path):
    safetensors.numpy.save_file(valid_file()[0], tmp_path / "p.safetensors")
    with pytest.raises(StoreCorrupt, match="its format is None"):
        read_patch(tmp_path / "p.safetensors")


def test_a_newer_format_names_both_versions(tmp_path):
    tensors, metadata = valid_file()
    safetensors.numpy.save_file(
        tensors, tmp_path / "p.safetensors", metadata={**metadata, "format_version": "9"}
    )
    with pytest.raises(StoreTooNew, match=r"version 9.*up to 3"):
        read_patch(tmp_path / "p.safetensors")
