#!/usr/bin/env python3
"""Builds the wheel `rlvr` (the command and the module), installs it into a new virtual environment, and tests it there.

    python3 python/build_wheel.py [--out dist] [--binary PATH] [--zig]

Needs a Rust toolchain and a package index, from which a virtual environment of its own gets maturin and auditwheel. The
command is built by cargo unless `--binary` names one that was. With `--zig` both are linked against glibc 2.17 by ziglang,
for systems that are older than this one; otherwise the wheel needs the glibc that its name says.
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
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
TRIPLE = "x86_64-unknown-linux-gnu"
GLIBC = "2.17"


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


def command(args, tools):
    """The program `rlvr`, built unless there is one."""
    if args.binary:
        return args.binary
    if args.zig:
        path = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        run("cargo", "zigbuild", "--release", "--target", f"{TRIPLE}.{GLIBC}", cwd=ROOT, env=path)
        return TARGET / TRIPLE / "release" / "rlvr"
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
    parser.add_argument("--zig", action="store_true", help=f"link against glibc {GLIBC}")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        zig = ["ziglang", "cargo-zigbuild"] if args.zig else []
        tools = environment(folder / "tools", "maturin>=1.9,<2", "auditwheel", *zig)
        scripts = HERE / "rlvr.data" / "scripts"
        shutil.rmtree(scripts.parent, ignore_errors=True)
        scripts.mkdir(parents=True)
        shutil.copy2(command(args, tools), scripts / "rlvr")

        built = folder / "built"
        # The module is a package of its own, and so is what it is built into.
        settings = {**os.environ, "CARGO_TARGET_DIR": str(TARGET / "python"), "PATH": f"{tools}:{os.environ['PATH']}"}
        linked = ["--zig", "--compatibility", f"manylinux_{GLIBC.replace('.', '_')}"] if args.zig else ["--compatibility", "linux"]
        run(tools / "maturin", "build", "--release", "--locked", *linked, "-i", sys.executable, "-o", built, cwd=HERE, env=settings)
        (wheel,) = built.glob("*.whl")
        major, minor = glibc(wheel)
        # The tag is the wheel's, of which maturin sees the module only.
        run(tools / "auditwheel", "show", wheel)
        run(tools / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "wheel")
        run(tools / "wheel", "tags", "--remove", "--platform-tag", f"manylinux_{major}_{minor}_x86_64", wheel)
        (wheel,) = built.glob("*.whl")
        args.out.mkdir(parents=True, exist_ok=True)
        wheel = pathlib.Path(shutil.copy2(wheel, args.out))

        clean = environment(folder / "clean")
        run(clean / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index", wheel)
        run(clean / "rlvr", "--version")
        run(clean / "python", "-c", "from rlvr import rewards; print(rewards.math(['\\\\boxed{0.5}'], answer=['1/2']))", cwd=folder)
        run(clean / "python", HERE / "tests" / "test_rewards.py", cwd=folder, env={**os.environ, "RLVR_BINARY": str(clean / "rlvr")})
        print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB, tested")


if __name__ == "__main__":
    main()
