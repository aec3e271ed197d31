#!/usr/bin/env python3
"""Builds the wheel `rlvr` (the command and the module), installs it into a new virtual environment, and tests it there.

    python3 python/build_wheel.py [--out dist] [--binary PATH]

Needs a Rust toolchain and a package index, from which a virtual environment of its own gets maturin and auditwheel. The
command is built by cargo unless `--binary` names one that was. The wheel needs the glibc that its name says, which is that
of the system it was built on, or an older one.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()


def run(*command, **settings):
    print("+", *command, flush=True)
    subprocess.run([str(word) for word in command], check=True, **settings)


def environment(folder, *packages):
    """A virtual environment with packages; its folder of programs."""
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    if packages:
        run(programs / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages)
    return programs


def command(args):
    """The program `rlvr`, built unless there is one."""
    if args.binary:
        return args.binary
    # As `cargo build` builds the whole workspace, so that nothing is built twice.
    run("cargo", "build", "--release", cwd=ROOT)
    return TARGET / "release" / "rlvr"


def glibc(wheel):
    """The newest glibc that a program or library of the wheel asks for."""
    newest = (0, 0)
    with zipfile.ZipFile(wheel) as files:
        for name in files.namelist():
            data = files.read(name)
            if data[:4] == b"\x7fELF":
                found = [tuple(map(int, v.split(b"."))) for v in re.findall(rb"GLIBC_(2\.\d+)\0", data)]
                print(f"{name}: {len(data) / 1e6:.1f} MB, glibc {'.'.join(map(str, max(found)))}")
                newest = max(newest, *found)
    return newest


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=TARGET / "wheels", help="folder of the wheel")
    parser.add_argument("--binary", type=pathlib.Path, help="the command, where it is built already")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        tools = environment(folder / "tools", "maturin>=1.9,<2", "auditwheel", "wheel")
        scripts = HERE / "rlvr.data" / "scripts"
        shutil.rmtree(scripts.parent, ignore_errors=True)
        scripts.mkdir(parents=True)
        shutil.copy2(command(args), scripts / "rlvr")

        built = folder / "built"
        # The module is a package of its own, and so is what it is built into.
        path = f"{tools}:{os.environ['PATH']}"
        settings = {**os.environ, "CARGO_TARGET_DIR": str(TARGET / "python"), "PATH": path}
        build = ["maturin", "build", "--release", "--locked", "--compatibility", "linux", "-i", sys.executable]
        run(*build, "-o", built, cwd=HERE, env=settings)
        (wheel,) = built.glob("*.whl")
        major, minor = glibc(wheel)
        # Maturin looks at the module only.
        run(tools / "auditwheel", "show", wheel)
        run(tools / "wheel", "tags", "--remove", "--platform-tag", f"manylinux_{major}_{minor}_x86_64", wheel)
        (wheel,) = built.glob("*.whl")
        args.out.mkdir(parents=True, exist_ok=True)
        wheel = pathlib.Path(shutil.copy2(wheel, args.out))

        clean = environment(folder / "clean")
        run(clean / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index", wheel)
        run(clean / "rlvr", "--version")
        first = "from rlvr import rewards; print(rewards.math(['\\\\boxed{0.5}'], answer=['1/2']))"
        run(clean / "python", "-c", first, cwd=folder)
        beside = {**os.environ, "RLVR_BINARY": str(clean / "rlvr")}
        run(clean / "python", HERE / "tests" / "test_rewards.py", cwd=folder, env=beside)
        print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB, tested")


if __name__ == "__main__":
    main()
