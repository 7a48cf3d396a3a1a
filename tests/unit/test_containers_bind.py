"""What containers are shown: a site's own binds stay, a linked file is there under both names, an odd name is refused."""

import os

import pytest

from levelfield.commands.doctor import containers
from levelfield.commands.images import call
from levelfield.errors import UserError
from levelfield.images import images
from levelfield.plan.containers import bind


@pytest.fixture
def reviews(tmp_path, monkeypatch):
    """An own file behind a linked folder, beyond the working folder."""
    for name in ("APPTAINER_BIND", "SINGULARITY_BIND"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/imdb.npz").touch()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "link/imdb.npz"


def bound(name: str = "APPTAINER_BIND") -> list[str]:
    return os.environ[name].split(",")


def test_a_file_behind_a_link_is_there_under_both_names(reviews):
    bind("apptainer", [str(reviews), "../link/imdb.npz"])
    real = str(reviews.resolve())
    assert bound() == [real, str(reviews)]


def test_a_link_of_the_working_folder_is_bound_where_it_leads(reviews, tmp_path):
    (tmp_path / "work/results").symlink_to(tmp_path / "disk")
    bind("apptainer", ["results"])
    assert bound() == [str(tmp_path / "disk")], "the working folder is there with its link"


@pytest.mark.parametrize("own", [None, "", "/mine"])
def test_what_a_sites_module_binds_stays(reviews, monkeypatch, own):
    monkeypatch.setenv("SINGULARITY_BIND", "/gpfs,/scratch:/tmp/scratch:ro")
    if own is not None:
        monkeypatch.setenv("APPTAINER_BIND", own)
    bind("apptainer", [str(reviews.resolve())])
    bind("apptainer", [str(reviews.resolve())])
    assert bound() == [*(["/mine"] if own else []), "/gpfs", "/scratch:/tmp/scratch:ro", str(reviews.resolve())]


def test_singularity_has_its_variable_alone(reviews, monkeypatch):
    monkeypatch.setenv("SINGULARITY_BIND", "/gpfs")
    bind("singularity", [str(reviews.resolve())])
    assert bound("SINGULARITY_BIND") == ["/gpfs", str(reviews.resolve())] and "APPTAINER_BIND" not in os.environ


@pytest.mark.parametrize("name", ["a b", "é", "a'b", '$(x)"', "a\\b"])
def test_a_name_with_blanks_or_quotes_is_bound(reviews, tmp_path, name):
    (tmp_path / name).mkdir()
    bind("apptainer", [str(tmp_path / name)])
    assert bound() == [str(tmp_path / name)]


@pytest.mark.parametrize("name", ["a,b", "a:b", "a^b", "a "])
def test_a_name_that_would_be_taken_apart_is_refused(reviews, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="rename it"):
        bind("apptainer", [str(tmp_path / name)])


@pytest.fixture
def an_ordinary_user(tmp_path, monkeypatch):
    """Not root, on a machine with these settings of the kernel and an `unshare` that ends so."""

    def made(refused: bool = False, **settings: str) -> None:
        monkeypatch.setattr(images.os, "geteuid", lambda: 1000)
        monkeypatch.setattr(images, "SYSCTL", tmp_path / "sys")
        for name, value in settings.items():
            file = tmp_path / "sys" / name.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{value}\n", encoding="utf-8")
        (tmp_path / "bin").mkdir()
        for name in ("unshare", "apptainer"):
            said = "unshare failed: Operation not permitted" if name == "unshare" else "x"
            (tmp_path / "bin" / name).write_text(f"#!/bin/sh\necho '{said}' >&2\nexit {255 * refused}\n", encoding="utf-8")
            (tmp_path / "bin" / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    return made


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"user__max_user_namespaces": "0"}, "user.max_user_namespaces is 0"),
        ({"kernel__unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone is 0"),
        ({"user__max_user_namespaces": "9000", "refused": True}, "unshare failed: Operation not permitted"),
    ],
)
def test_forbidden_user_namespaces_are_told_with_what_to_ask_for(an_ordinary_user, settings, found, monkeypatch):
    an_ordinary_user(**settings)
    assert found in images.namespaces_forbidden() and "apptainer-suid" in images.namespaces_forbidden()
    assert found in containers() or "no Apptainer" in containers()


def test_a_failed_build_says_why(an_ordinary_user):
    an_ordinary_user(refused=True)
    with pytest.raises(UserError, match=r"exit code 255, see above; user namespaces may be forbidden here"):
        call(["apptainer", "build"], "it could not be built")


def test_root_and_a_kernel_that_allows_them_need_no_word(an_ordinary_user, monkeypatch):
    an_ordinary_user(user__max_user_namespaces="9000")
    assert images.namespaces_forbidden() is None
    monkeypatch.setattr(images.os, "geteuid", lambda: 0)
    monkeypatch.setattr(images, "SYSCTL", None)
    assert images.namespaces_forbidden() is None


def test_a_setuid_starter_needs_no_word(an_ordinary_user, tmp_path):
    """Where the administrator has installed it, containers start without user namespaces."""
    an_ordinary_user(refused=True)
    runtime, starter = tmp_path / "bin/apptainer", tmp_path / "libexec/apptainer/bin/starter-suid"
    runtime.write_text(f"#!/bin/sh\necho 'BINDIR=/usr/bin'\necho 'LIBEXECDIR={tmp_path}/libexec'\n", encoding="utf-8")
    assert "may be forbidden" in images.namespaces_forbidden(), "there is none"
    starter.parent.mkdir(parents=True)
    starter.touch(mode=0o755)
    assert "may be forbidden" in images.namespaces_forbidden(), "it is not setuid"
    starter.chmod(0o4755)
    assert images.namespaces_forbidden() is None


def test_a_kernels_setting_is_told_as_certain_and_a_refused_program_is_not(an_ordinary_user):
    an_ordinary_user(user__max_user_namespaces="0")
    assert "are forbidden here (user.max_user_namespaces is 0)" in images.namespaces_forbidden()
    (images.SYSCTL / "user/max_user_namespaces").write_text("9000")
    assert images.namespaces_forbidden() is None
