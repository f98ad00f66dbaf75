"""Going on after a kill."""

from dsee_compress.store import resume


def test_checkpoints_of_another_config_are_not_resumed_from(tmp_path):
    state = resume.state(tmp_path / "made", {"rank": 8})
    (state / "checkpoint-1").mkdir()
    assert (resume.state(tmp_path / "made", {"rank": 8}) / "checkpoint-1").exists()
    assert not (resume.state(tmp_path / "made", {"rank": 4}) / "checkpoint-1").exists()
