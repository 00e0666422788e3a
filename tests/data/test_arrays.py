import numpy as np
import pytest

from reverie.data import Arrays, resolve


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    return Arrays(str(tmp_path / "a.npz"))


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("name", ["x", "X", "images", "data", "arr_0", "anything"])
def test_items_are_found_by_name_or_for_being_the_only_ones(tmp_path, name):
    values = np.random.default_rng(0).normal(size=(6, 3))
    found = saved(tmp_path, **{name: values, "y": np.array([0, 2, 2, 0, 5, 0])}).load()
    assert np.array_equal(found.items, values.astype(np.float32))
    assert found.labels.tolist() == [0, 2, 2, 0, 5, 0]
    assert found.classes == tuple("012345")  # gaps keep their number
    assert not found.image


def test_several_candidates_are_listed_and_named_ones_are_taken(tmp_path):
    data = saved(tmp_path, left=np.zeros((4, 2)), right=np.ones((4, 2)), which=np.array([1, 0, 1, 0]))
    with pytest.raises(ValueError, match=r"left float64 \(4, 2\), right .*data\.items=NAME"):
        data.load()
    found = Arrays(data.path, items="right", labels="which").load()
    assert (found.items == 1).all()
    assert found.labels.tolist() == [1, 0, 1, 0]
    with pytest.raises(ValueError, match=r"no array 'wrong' for data\.items; it has left"):
        Arrays(data.path, items="wrong").load()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_last_becomes_channels_first(tmp_path, channels):
    images = pixels(5, 8, 6, channels)
    last = saved(tmp_path, x=images).load()
    first = saved(tmp_path, x=np.moveaxis(images, 3, 1)).load()
    assert last.image
    assert np.array_equal(last.items, np.moveaxis(images, 3, 1))
    assert np.array_equal(first.items, last.items)


def test_where_both_layouts_fit_channels_come_first_unless_said(tmp_path):
    images = pixels(5, 3, 8, 3)
    data = saved(tmp_path, x=images)
    assert np.array_equal(data.load().items, images)
    assert np.array_equal(Arrays(data.path, channels_last=True).load().items, np.moveaxis(images, 3, 1))


def test_grey_pictures_bytes_that_are_no_pictures_and_saying_so(tmp_path):
    data = saved(tmp_path, x=pixels(5, 4, 7))
    assert data.load().items.shape == (5, 1, 4, 7)
    plain = Arrays(data.path, image=False).load()
    assert plain.items.dtype == np.float32
    assert plain.items.shape == (5, 4, 7)
    small = saved(tmp_path, x=pixels(5, 3, 7))
    assert not small.load().image
    assert Arrays(small.path, image=True).load().items.shape == (5, 1, 3, 7)
    with pytest.raises(ValueError, match=r"pictures are uint8 .* float64 \(5, 8, 8\)"):
        Arrays(saved(tmp_path, x=np.zeros((5, 8, 8))).path, image=True).load()


def test_one_number_a_row_and_integers_become_float32_columns(tmp_path):
    np.save(tmp_path / "a.npy", np.array([3, 1, 2], np.int16))
    found = resolve(str(tmp_path / "a.npy")).load()
    assert found.items.tolist() == [[3.0], [1.0], [2.0]]
    assert found.items.dtype == np.float32


def test_pictures_in_an_npy_are_mapped_not_read(tmp_path):
    np.save(tmp_path / "a.npy", pixels(5, 3, 8, 8))
    found = Arrays(str(tmp_path / "a.npy")).load()
    assert isinstance(found.items, np.memmap)
    assert not found.items.flags.writeable


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_numbers_that_are_not_finite_are_counted_and_placed(tmp_path, value):
    values = np.zeros((9, 4, 2))
    values[6, 1], values[4, 3, 0] = value, value
    with pytest.raises(ValueError, match="3 values that are not finite in float32, the first in row 4"):
        saved(tmp_path, x=values).load()


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.zeros(3), r"shape \(3,\); expected \(4,\)"),
        (np.array([0, 1, -2, 0]), "one of them is -2"),
        (np.array([0, 1.5, 0, 0]), "not whole numbers"),
        (np.array([0, np.nan, 0, 0]), "not whole numbers"),
        (np.array([0, 10**9, 0, 0]), "one of them is 1000000000"),
    ],
)
def test_labels_that_cannot_be_classes_are_refused_or_left_out(tmp_path, labels, says):
    data = saved(tmp_path, x=np.eye(4), y=labels)
    with pytest.raises(ValueError, match=says + ".*data.labels=''"):
        data.load()
    assert Arrays(data.path, labels="").load().labels is None


def test_labels_as_texts_booleans_columns_and_with_names(tmp_path):
    found = saved(tmp_path, x=np.eye(4), y=np.array(["cat", "ant", "cat", "dog"])).load()
    assert found.classes == ("ant", "cat", "dog")
    assert found.labels.tolist() == [1, 0, 1, 2]
    assert saved(tmp_path, x=np.eye(2), y=np.array([True, False])).load().labels.tolist() == [1, 0]
    assert saved(tmp_path, x=np.eye(2), y=np.array([[1.0], [0.0]])).load().labels.tolist() == [1, 0]
    named = saved(tmp_path, x=np.eye(2), y=np.array([1, 0]), classes=np.array(["a", "b", "c"])).load()
    assert named.classes == ("a", "b", "c")


def test_an_array_split_marks_the_official_test_set(tmp_path):
    marks = np.array(["train", "test", "train", "test"])
    assert saved(tmp_path, x=np.eye(4), split=marks).load().held_out.tolist() == [1, 3]


@pytest.mark.parametrize("name", ["text", "Texts", "captions"])
def test_an_array_of_texts_is_captions(tmp_path, name):
    texts = np.array([" a cat", "猫 🐈", "ein Hund", "x"])
    found = saved(tmp_path, x=np.eye(4), **{name: texts}).load()
    assert found.texts == ("a cat", "猫 🐈", "ein Hund", "x")
    assert found.troubles == ()
    found = saved(tmp_path, x=np.eye(4), **{name: np.array(["ok", "", "ok", "x"])}).load()
    assert found.texts == ("ok", "", "ok", "x")
    assert [(s.path, s.reason) for s in found.troubles] == [("#1", "holds an empty caption")]


def test_an_array_that_cannot_be_captions_is_named_and_strictly_refused(tmp_path):
    data = saved(tmp_path, x=np.eye(4), text=np.zeros((4, 7), int))
    found = data.load()
    assert found.texts == ()
    assert found.troubles[0].reason == "holds int64 (4, 7) where 4 texts would be captions"
    with pytest.raises(ValueError, match=r"1 trouble .*a\.npz, the first: array 'text': holds int64"):
        Arrays(data.path, strict=True).load()
    assert Arrays(data.path, strict=True, attributes=("text",)).load().attributes[0].values.shape == (4, 7)
    bad = saved(tmp_path, x=np.eye(2), text=np.array([b"\xff", b"caf\xc3\xa9"])).load()
    assert bad.texts == ("", "café")
    assert [(s.path, s.reason) for s in bad.troubles] == [("#0 line 1", "not UTF-8 (byte 0xff)")]


def test_arrays_are_attributes_only_when_they_are_asked_for(tmp_path):
    data = saved(tmp_path, x=np.eye(3), age=np.array([1, 2, 5]), style=np.array(["b", "a", ""]), z=np.ones((3, 2)))
    assert data.load().attributes == ()
    style, z, age = Arrays(data.path, attributes=("style", "z", "age")).load().attributes
    assert (style.name, style.classes, style.values.tolist()) == ("style", ("a", "b"), [1, 0, -1])
    assert (z.name, z.values.tolist()) == ("z", [[1.0, 1.0]] * 3)
    assert (age.name, age.values.tolist()) == ("age", [[1.0], [2.0], [5.0]])
    with pytest.raises(ValueError, match=r"no array 'size' for data\.attributes; it has x"):
        Arrays(data.path, attributes=("size",)).load()
    with pytest.raises(ValueError, match="twice: age, age"):
        Arrays(data.path, attributes=("age", "age")).load()


def test_arrays_that_are_called_attributes_are_some(tmp_path):
    held = {"attribute_style": np.array(["b", "a", ""]), "attribute_age": np.array([1, 2, 5])}
    data = saved(tmp_path, x=np.eye(3), attribute_names=np.array(["style", "age"]), age=np.zeros(3), **held)
    style, age = data.load().attributes  # the names of all are no value an item
    assert (style.name, style.classes, style.values.tolist()) == ("style", ("a", "b"), [1, 0, -1])
    assert (age.name, age.values.tolist()) == ("age", [[1.0], [2.0], [5.0]])
    own, plain = Arrays(data.path, attributes=("style", "age")).load().attributes
    assert (own.values.tolist(), plain.values.tolist()) == ([1, 0, -1], [[0.0]] * 3)


@pytest.mark.parametrize(
    "values", [np.zeros((3, 4, 4)), np.array(["", "", ""]), np.array([1.0, np.inf, 2.0]), np.zeros(3, "M8[D]")]
)
def test_an_array_that_is_called_an_attribute_and_cannot_be_one_is_none(values, tmp_path):
    data = saved(tmp_path, x=np.eye(3), attribute_mask=values)
    assert data.load().attributes == ()
    with pytest.raises(ValueError, match="attribute"):
        Arrays(data.path, attributes=("mask",)).load()


def test_objects_are_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    bomb = np.empty(2, object)
    bomb[0] = Bomb()
    np.save(tmp_path / "a.npy", bomb, allow_pickle=True)
    np.savez(tmp_path / "b.npz", x=bomb)
    for name in ("a.npy", "b.npz"):
        with pytest.raises(ValueError, match=f"{name} .*pickled objects, which are never loaded"):
            Arrays(str(tmp_path / name)).load()


def test_damaged_empty_and_text_files_are_named(tmp_path):
    np.savez(tmp_path / "cut.npz", x=np.zeros((50, 50)))
    np.save(tmp_path / "cut.npy", np.zeros((50, 50)))
    for name in ("cut.npz", "cut.npy"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none.npy").write_bytes(b"")
    (tmp_path / "text.npz").write_text("hello")
    for name in ("cut.npz", "cut.npy", "none.npy", "text.npz"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            Arrays(str(tmp_path / name)).load()
    with pytest.raises(ValueError, match="are empty"):
        saved(tmp_path, x=np.zeros((0, 3))).load()
    with pytest.raises(ValueError, match="must be numbers; they are <U1"):
        saved(tmp_path, x=np.array([["a"], ["b"]])).load()
    with pytest.raises(ValueError, match="there is no file"):
        Arrays(str(tmp_path / "gone.npz")).load()
