import json


def test_recipes_are_listed_with_what_they_are(cli):
    code, out, _ = cli("recipes")
    assert code == 0
    about = "A few steps of imitation on CartPole's observations."
    assert out.splitlines()[1].split(maxsplit=2) == ["tiny", "tiny", about]


def test_recipes_are_available_to_programs(cli):
    (recipe,) = json.loads(cli("recipes", "--json")[1])
    assert (recipe["recipe"], recipe["plugin"]) == ("tiny", "tiny")


def test_a_recipe_is_copied_and_never_over_a_file(cli, tmp_path):
    assert cli("recipes", "copy", "tiny")[:2] == (0, "copied to tiny.yaml; change it, then: mscore run tiny.yaml\n")
    (tmp_path / "tiny.yaml").write_text("mine")
    code, _, err = cli("recipes", "copy", "tiny")
    assert (code, "tiny.yaml exists already" in err) == (1, True)
    assert (tmp_path / "tiny.yaml").read_text() == "mine"
    (tmp_path / "folder").mkdir()
    cli("recipes", "copy", "tiny", "folder")
    assert "policy: {use: tiny}" in (tmp_path / "folder" / "tiny.yaml").read_text()
    assert "there is no folder nowhere" in cli("recipes", "copy", "tiny", "nowhere/x.yaml")[2]


def test_an_unknown_recipe_is_answered_with_the_nearest(cli):
    code, _, err = cli("recipes", "copy", "tinny")
    assert (code, "unknown recipe 'tinny'. Did you mean 'tiny'?" in err) == (2, True)
