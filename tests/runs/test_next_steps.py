from __future__ import annotations

from configs import smoke
from se_resnet.runs.next_steps import next_steps
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.files import write_json
from se_resnet.training.config import plain


def steps_of(folder, **changes):
    config = smoke.get_config()
    config.update_from_flattened_dict(changes)
    run = RunFolder(folder)
    write_json(run.config_path, plain(config))
    return next_steps(run).splitlines()


def test_the_report_and_the_commands_are_named(tmp_path):
    folder = tmp_path / "my runs" / "se"
    opened, *commands = steps_of(folder)
    assert opened == f"open      {folder}/eval/test/report.html"
    assert commands == [
        f"run next  python -m se_resnet.predict '--workdir={folder}' --input=IMAGES "
        "--out=predictions",
        f"          python -m se_resnet.app '--workdir={folder}'",
        f"          python -m se_resnet.runs '{folder.parent}'",
    ]


def test_a_run_without_test_images_has_the_report_of_its_validation(tmp_path):
    assert "/eval/val/report.html" in steps_of(tmp_path, **{"split.fold": "none"})[0]


def test_commands_name_the_attention_module_of_the_user(tmp_path):
    _, predict, page, _ = steps_of(tmp_path, **{"model.attention": "mine.py:Gate"})
    assert "--attention=mine.py:Gate --input" in predict and page.endswith("=mine.py:Gate")
