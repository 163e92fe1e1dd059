"""Nobody but the session reaches the workers that a session starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tuner.cluster import connect

pytest.importorskip("distributed")
pytest.importorskip("cryptography")

ATTACK = """
import asyncio, json, os, sys, urllib.request
from distributed import Client
from distributed.core import connect
from distributed.security import Security

address, workers, ports, mark = json.load(sys.stdin)
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)

def write(path):
    open(path, "w").write("here")

came = []
for name, security in (("plain", None), ("own certificates", Security.temporary())):
    to = address if security else address.replace("tls://", "tcp://")
    try:
        with Client(to, security=security, timeout=5) as client:
            client.submit(write, mark).result(timeout=5)
            came.append(f"{name}: the scheduler")
    except Exception as error:
        print(name, type(error).__name__, file=sys.stderr)

async def talk(to, arguments):
    comm = await asyncio.wait_for(connect(to, timeout=3, **arguments), 5)
    await comm.write({"op": "identity", "reply": True})
    answer = await asyncio.wait_for(comm.read(), 3)
    return answer["type"]

for worker in workers:
    for to, arguments in (
        (worker.replace("tls://", "tcp://"), {}),
        (worker, Security.temporary().get_connection_args("client")),
    ):
        try:
            came.append(f"{asyncio.run(talk(to, arguments))} at {to}")
        except Exception as error:
            print(to, type(error).__name__, file=sys.stderr)

for port in ports:
    for page in ("", "status", "info/main/workers.html", "json/counts.json", "metrics", "health"):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=3) as answer:
                came.append(f"page {page} at {port}")
        except Exception:
            pass
print(json.dumps(came))
"""


def attack(address: str, workers: list[str], ports: list[int], mark: Path) -> list[str]:
    """Try to talk to a cluster as another user (if this one is root); return what answered."""
    done = subprocess.run(
        [sys.executable, "-c", ATTACK],
        input=json.dumps([address, workers, ports, str(mark)]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def plain_cluster():
    """Start what sfx-tuner must not start."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        yield client


def listening(pids: list[int]) -> list[int]:
    import psutil

    found = (connection for pid in pids for connection in psutil.Process(pid).net_connections())
    return sorted({each.laddr.port for each in found if each.status == psutil.CONN_LISTEN})


@pytest.mark.parametrize("safe", [True, False])
def test_another_user_is_turned_away(tmp_path, safe):
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    with connect("local", 1) if safe else plain_cluster() as client:
        workers = list(client.scheduler_info(n_workers=-1)["workers"])
        ports = listening([os.getpid(), *client.run(os.getpid).values()])
        address = client.scheduler.address
        came = attack(address, workers, ports, tmp_path / "mark")
        assert client.submit(sum, [1, 2]).result(timeout=30) == 3, "it still works"
    if safe:
        assert address.startswith("tls://")
        assert came == [] and not (tmp_path / "mark").exists()
    else:  # so the attack is one
        assert any("plain" in each for each in came) and (tmp_path / "mark").exists()


def test_jobs_of_a_queue_talk_tls(monkeypatch, tmp_path):
    pytest.importorskip("dask_jobqueue")
    import dask

    from tuner.cluster import _slurm, _without_pages

    monkeypatch.setenv("HOME", str(tmp_path))
    with (
        dask.config.set({"jobqueue.slurm.cores": 1, "jobqueue.slurm.memory": "1GB"}),
        _without_pages(),
        _slurm(0) as cluster,
    ):
        assert "tls://" in cluster.job_script()
        (key,) = tmp_path.glob(".dask-jobqueue.worker.key*")
        assert key.stat().st_mode & 0o077 == 0
        assert f"--tls-key {key}" in cluster.job_script()


@pytest.mark.slow
def test_an_address_without_certificates_is_said():
    from wrappers.errors import InputError

    said: list[str] = []
    with (
        pytest.raises(InputError, match="no Dask scheduler answers"),
        connect("tcp://127.0.0.1:1", 1, said.append),
    ):
        pass
    assert len(said) == 1 and "whoever can reach it" in said[0]
