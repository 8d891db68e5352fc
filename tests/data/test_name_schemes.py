"""What the names of public collections say of the fingers and surfaces in their images."""

import re
from pathlib import Path

import pytest
import yaml

from kod_bench.data import DatasetOptions
from kod_bench.data.fingerprints import finger_labels
from kod_bench.data.name_schemes import recognised
from kod_bench.data.splits import connected_groups
from kod_bench.data.textures import texture_labels


def fingers(*names: str, digests: list[str] | None = None) -> list[tuple[str, ...]]:
    return finger_labels(names, digests or [str(i) for i in range(len(names))])


def textures(*names: str) -> list[tuple[str, ...]]:
    return texture_labels(names, [""] * len(names))


def test_fvc_names_give_the_finger() -> None:
    assert fingers("101_1.tif", "101_8.tif", "102_1.tif") == [("101",), ("101",), ("102",)]


def test_a_finger_spread_over_folders_is_one_finger() -> None:
    first, second = fingers("session1/101_1.tif", "session2/101_2.tif")
    assert first == second


def test_fvc_databases_side_by_side_are_told_apart() -> None:
    one, two, other = fingers("DB1/101_1.tif", "DB2/101_1.tif", "DB2/101_2.tif")
    assert one != two == other


def test_a_copy_of_a_database_is_not_another_database() -> None:
    one, copy = fingers("DB1/101_1.tif", "backup/101_1.tif", digests=["a", "a"])
    assert one == copy


@pytest.mark.parametrize(
    "name",
    [
        "enhanced_101_1.png",
        "train_101_2.png",
        "fp-101_3.png",
        "101_4_enhanced.png",
        "101_5 (copy).png",
        "raw scan 101_6_rot90.png",
    ],
)
def test_a_prefix_or_suffix_does_not_hide_the_finger(name: str) -> None:
    plain, other = fingers("101_1.tif", name)
    assert plain == other == ("101",)


@pytest.mark.parametrize("prefix", ["DB1", "fvc2002_db1", "FVC2002-DB1_B", "2002_DB1", "fvc2002"])
def test_a_database_in_the_prefix_counts(prefix: str) -> None:
    one, again, plain = fingers(f"{prefix}_101_1.tif", f"x/{prefix}_101_2.tif", "101_1.tif")
    assert one == again != plain
    assert one[0].endswith("/101")


def test_databases_in_prefixes_are_told_apart_by_their_names_alone() -> None:
    raw, enhanced, other = fingers("DB1_101_1.tif", "enh_db1_101_1.tif", "DB2_101_1.tif")
    assert raw == enhanced != other


@pytest.mark.parametrize(
    "name",
    [
        "a/thumb.png",
        "thumb_1.png",
        "1_2_3.png",  # PolyU HRF: a person, a session, an impression; or a finger in the middle
        "dp_0000_0_0.bmp",  # MCYT: a person, a finger, an impression
        "p12_3_1.png",
        "rot90_101_1.png",
        "scan_20190101_12.png",
        "0001.png",
    ],
)
def test_other_names_say_nothing(name: str) -> None:
    assert fingers(name) == [()]


@pytest.mark.parametrize(
    "name",
    [
        "Real/1__M_Left_index_finger.BMP",
        "Altered/Altered-Easy/1__M_Left_index_finger_CR.BMP",
        "Altered/Altered-Hard/1__M_Left_index_finger_CR.BMP",
        "1__M_Left_index_finger_Obl.BMP",
        "1__M_Left_index_finger_Zcut.BMP",
        "easy_1__M_Left_index_finger_Zcut.BMP",
        "1__M_Left_index_finger_CR_hard.BMP",
    ],
)
def test_altered_socofing_prints_belong_to_their_finger(name: str) -> None:
    assert fingers(name) == [("1__m_left_index_finger",)]


@pytest.mark.parametrize(
    "other",
    ["1__M_Right_index_finger", "2__M_Left_index_finger", "11__M_Left_index_finger"],
)
def test_other_socofing_fingers_are_other_fingers(other: str) -> None:
    assert len(set(fingers(f"{other}.BMP", "1__M_Left_index_finger.BMP"))) == 2


def test_sd4_has_two_rollings_of_a_finger() -> None:
    first, second, prefixed, other, hand = fingers(
        "figs_0/f0001_01.png", "s0001_01.png", "sd4_f0001_01.png", "f0002_01.png", "f0001_02.png"
    )
    assert first == second == prefixed == ("sd4 0001_01",)
    assert len({first, other, hand}) == 3


def test_casia_has_five_impressions_of_a_finger() -> None:
    one, again, prefixed, hand, finger, person = fingers(
        *("000/L/000_L0_0.bmp", "000_L0_4.bmp", "train_000_L0_2.bmp"),
        *("000_R0_0.bmp", "000_L1_0.bmp", "001_L0_0.bmp"),
    )
    assert one == again == prefixed == ("casia 000_l0",)
    assert len({one, hand, finger, person}) == 4


def grouped(*names: str) -> list[list[int]]:
    return connected_groups(fingers(*names))


def test_sd300_impressions_and_resolutions_are_of_one_finger() -> None:
    assert grouped(
        "500/roll/00001000_roll_500_01.png",
        "1000/roll/00001000_roll_1000_01.png",
        "00001000_plain_500_11.png",  # the right thumb, plain
        "00001000_roll_500_02.png",
        "00001001_roll_500_01.png",
    ) == [[0, 1, 2], [3], [4]]


def test_a_slap_joins_the_fingers_that_it_shows() -> None:
    rolled = [f"00001000_roll_500_{finger:02}.png" for finger in range(1, 11)]
    assert len(grouped(*rolled)) == 10
    right = grouped(*rolled, "00001000_plain_500_13.png")
    assert right == [[0], [1, 2, 3, 4, 10], *([finger] for finger in range(5, 10))]
    assert len(grouped(*rolled, "00001000_plain_500_14.png")) == 7
    assert len(grouped(*rolled, "00001000_slap_500_15.png")) == 9  # both thumbs


def test_sd302_devices_see_the_same_fingers() -> None:
    assert grouped(
        "00002502_A_roll_01.png",
        "00002502_B_roll_01.png",
        "00002502_R_1000_slap_13.png",
        "00002502_U_500_roll_02.png",
        "00002502_S_500_slap-segmented_03.png",
    ) == [[0, 1], [2, 3, 4]]


def test_an_equalised_texture_belongs_to_its_original() -> None:
    one, equalised, small, two, two_equalised, other = textures(
        *("1.1.01.tiff", "1.2.01.tiff", "sipi_1.1.01_256.png"),
        *("1.1.02.tiff", "other/1.2.02.png", "1.3.01.tiff"),
    )
    assert one == equalised == small != two == two_equalised
    assert other == ()


def test_usc_sipi_rotated_textures_are_one() -> None:
    one, turned, other = textures("bark.000.tiff", "bark.150.tiff", "brick.000.tiff")
    assert one == turned != other


@pytest.mark.parametrize(
    "name",
    [
        "original/D1.gif",
        "normalised/d001.tif",
        "D1_COLORED.tif",
        "D001/D1_COLORED_16.tif",
        "Brodatz_D1.png",
        "brodatz-norm-d01-rotated.png",
    ],
)
def test_brodatz_numbers_are_textures_in_any_version(name: str) -> None:
    assert textures(name) == [("brodatz 1",)]


@pytest.mark.parametrize("name", ["D11.gif", "D1 detail.gif", "D113.png", "D0.png", "ID1.png"])
def test_other_names_are_not_brodatzs_first(name: str) -> None:
    assert textures(name) != [("brodatz 1",)]


def test_kth_tips_samples_are_surfaces() -> None:
    scale, pose, gray, sample, material, first = textures(
        "cork/sample_a/42a-scale_2_im_1_col.png",
        "KTH-TIPS2-b/cork/sample_a/42a-scale_10_im_12_col.png",
        "42a-scale_2_im_1_grey.png",
        "cork/sample_b/42b-scale_2_im_1_col.png",
        "wool/sample_a/22a-scale_2_im_1_col.png",
        "cork/42-scale_1_im_1_col.png",  # KTH-TIPS, one sample of each material
    )
    assert scale == pose == gray
    assert len({scale, sample, material, first}) == 4


def test_kth_tips_sample_may_stand_in_the_folder_alone() -> None:
    one, again, other = textures(
        "cork/sample_a/15-scale_2_im_1_col.png",
        "cork/sample_a/15-scale_5_im_2_col.png",
        "cork/sample_b/15-scale_2_im_1_col.png",
    )
    assert one == again != other


def test_a_collection_is_recognised_where_its_images_belong_together() -> None:
    assert recognised(["f0001_01.png", "s0001_01.png"]) == "NIST SD4"
    assert recognised(["f0001_01.png", "f0002_01.png"]) is None
    assert recognised(["f0001_01.png", "s0001_01.png", "a.png", "b.png"]) is None
    assert recognised(["cat/1.png", "dog/1.png"]) is None


DOCUMENT = Path(__file__).parents[2] / "docs" / "data.md"


def test_every_name_that_the_document_has_is_understood() -> None:
    text = DOCUMENT.read_text("utf-8")
    fingerprints, textured = text.split("`fingerprints`:")[1].split("`textures`:")
    rows = [line.split("|")[2] for line in fingerprints.splitlines() if line.startswith("| ")]
    found = [name for row in rows for name in re.findall(r"`([^`]+\.[a-zBMP]+)`", row)]
    assert len(found) >= 8
    assert all(fingers(*found))
    rows = [line.split("|")[2] for line in textured.splitlines() if line.startswith("| ")][:5]
    found = [name for row in rows for name in re.findall(r"`([^`]+\.[a-z]+)`", row)]
    assert len(found) >= 8
    assert all(textures(*found))


def test_the_documents_example_is_a_data_set() -> None:
    text = DOCUMENT.read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    options = DatasetOptions.model_validate(yaml.safe_load(block)["dataset"])
    assert options.group is not None
    match = re.search(options.group, "db/012_3_1.tif")
    assert match is not None
    assert match.groups() == ("012", "3")


def test_names_that_only_look_like_sd4s_say_nothing() -> None:
    names = [f"s{subject:04}_{take:02}.png" for subject in range(1, 6) for take in range(1, 5)]
    assert set(finger_labels(names, names)) == {()}
    both = ["f0001_01.png", "s0001_01.png", "f0002_02.png"]
    assert finger_labels(both, both)[0] == finger_labels(both, both)[1] != ()
