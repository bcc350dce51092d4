"""A small W&B server on the loopback interface, for the real client; `python tests/support/wandb_server.py PORT` by hand.

It answers the GraphQL operations, the file stream and the uploads that the `wandb` client (0.31) makes for runs, resume,
media, artifacts, sweeps and agents, keeps what it gets as plain data, and can be told to be slow, to refuse or to die. It
does not check keys.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

ENTITY = "tester"
Json = dict[str, Any]


@dataclass
class Run:
    """A run as the server knows it."""

    id: str
    project: str
    entity: str
    name: str = ""
    state: str = "running"
    preempting: bool = False
    group: str | None = None
    job_type: str | None = None
    notes: str | None = None
    tags: list[str] = field(default_factory=list)
    sweep: str | None = None
    raw_config: Json = field(default_factory=dict)  # {key: {"value": ...}}, and `_wandb`
    summary: Json = field(default_factory=dict)
    lines: dict[str, list[str | None]] = field(default_factory=dict)  # of the streamed files, by offset; None: a gap
    files: dict[str, bytes] = field(default_factory=dict)  # uploaded by PUT

    @property
    def config(self) -> Json:
        """Without the client's own entries."""
        return {key: entry["value"] for key, entry in self.raw_config.items() if key != "_wandb"}

    @property
    def history(self) -> list[Json]:
        """The rows of the history in the order of their offsets."""
        return [json.loads(line) for line in self.lines.get("wandb-history.jsonl", []) if line is not None]


@dataclass
class Artifact:
    """One version of an artifact."""

    id: str
    name: str  # of its collection
    type: str
    digest: str
    run: str
    version: int = -1  # once committed
    state: str = "PENDING"
    metadata: Json = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    wanted_aliases: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Sweep:
    """A sweep, and the runs that it has handed out."""

    id: str
    project: str
    entity: str
    config: Json
    state: str = "RUNNING"
    waiting: list[Json] = field(default_factory=list)  # commands that no agent has had yet
    given: dict[str, str] = field(default_factory=dict)  # run -> agent
    parameters: dict[str, Json] = field(default_factory=dict)  # run -> what it was given
    stopping: set[str] = field(default_factory=set)  # runs to be stopped at their agent's next heartbeat


class WandbServer:
    """Start it with `with`; `url` is its address, the rest is what it has received and the switches for faults."""

    def __init__(self, port: int = 0) -> None:
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, list[Artifact]] = {}  # by collection, committed versions in order
        self.sweeps: dict[str, Sweep] = {}
        self.agents: dict[str, str] = {}  # agent -> sweep
        self.received: list[tuple[str, bytes]] = []  # (operation or path, body), everything except headers
        self.unknown: set[str] = set()  # operations that were asked for and are not spoken
        self.env: dict[str, str] = {}  # for a process that shall be logged in to this server
        # Faults.
        self.delay = 0.0  # seconds before each answer
        self.refusal: int | None = None  # this HTTP status instead of each answer
        self.refused = ""  # only where the path holds this
        self.die_after_rows: int | None = None  # close down once the runs have so many rows of history together

        self._pending: dict[str, Artifact] = {}
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._port = port
        self._http: ThreadingHTTPServer | None = None

    # Life and death.

    def start(self) -> None:
        """Listen; after `stop`, on the same port and with everything that is known."""
        handler = type("Handler", (_Handler,), {"lab": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._http.daemon_threads = True
        self._port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Connections are refused from now on."""
        http, self._http = self._http, None
        if http is not None:
            http.shutdown()
            http.server_close()

    def __enter__(self) -> WandbServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether it listens."""
        return self._http is not None

    @property
    def url(self) -> str:
        """What WANDB_BASE_URL has to be."""
        return f"http://127.0.0.1:{self._port}"

    # What the handler calls.

    def graphql(self, body: Json) -> Json:
        """The answer to one GraphQL request."""
        found = re.search(r"\b(?:query|mutation)\s+(\w+)", body["query"])
        name = found[1] if found else "?"
        answer: Callable[[Json], Json] | None = getattr(self, f"_on_{name}", None)
        with self._lock:
            if answer is None:
                self.unknown.add(name)
                return {"errors": [{"message": f"this server does not speak {name}"}]}
            return {"data": answer(body.get("variables") or {})}

    def stream(self, entity: str, project: str, run_id: str, body: Json) -> Json:
        """Lines for the files of a run, each block at its offset."""
        with self._lock:
            run = self._run(run_id, project, entity)
            for name, block in (body.get("files") or {}).items():
                lines = run.lines.setdefault(name, [])
                start, content = block["offset"], block["content"]
                lines.extend([None] * (start + len(content) - len(lines)))
                lines[start : start + len(content)] = content
                if name == "wandb-summary.json" and content:
                    run.summary = json.loads(content[-1])
                    run.lines[name] = []
            run.preempting |= bool(body.get("preempting"))
            if body.get("complete"):
                run.state = "finished" if body.get("exitcode") == 0 else "preempted" if run.preempting else "failed"
                if run.state == "preempted" and any(run_id in sweep.parameters for sweep in self.sweeps.values()):
                    run.preempting = False
                    self.requeue(run_id)
            if self.die_after_rows is not None and sum(len(run.history) for run in self.runs.values()) >= self.die_after_rows:
                self.die_after_rows = None
                threading.Thread(target=self.stop, daemon=True).start()
            stopped = any(run_id in sweep.stopping for sweep in self.sweeps.values())
        return {"exitcode": None, "limits": {}, "stopped": stopped}

    def put(self, path: str, body: bytes) -> None:
        """An upload to one of the addresses that were given out."""
        kind, owner, name = path.strip("/").split("/", 2)
        with self._lock:
            if kind == "run-files":
                self.runs[owner].files[unquote(name)] = body
            else:
                self._pending[owner].files[unquote(name)] = body

    # Users, runs.

    def _on_Viewer(self, _: Json) -> Json:
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        return {"viewer": {"id": "V", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}", "teams": teams}}

    _on_GetDefaultEntity = _on_Viewer

    def _on_OrganizationCoreWeaveOrganizationID(self, _: Json) -> Json:
        return {"organization": None}

    def _on_ServerFeaturesQuery(self, _: Json) -> Json:
        return {"serverInfo": {"features": []}}

    def _on_OrgFeatureFlags(self, _: Json) -> Json:
        return {"organization": None}

    def _on_XXHashDigestsEnabled(self, _: Json) -> Json:
        return {"entity": {"xxhashDigestsEnabled": False}}

    def _run(self, run_id: str, project: str, entity: str) -> Run:
        return self.runs.setdefault(run_id, Run(run_id, project, entity, name=run_id))

    def _on_RunResumeStatus(self, asked: Json) -> Json:
        run = self.runs.get(asked["name"])
        project = _project(asked.get("project"), asked.get("entity"))
        return {"model": {**project, "bucket": None if run is None else _bucket(run)}}

    def _on_UpsertBucket(self, asked: Json) -> Json:
        run_id = asked.get("name") or asked["id"]
        inserted = run_id not in self.runs
        run = self._run(run_id, asked.get("project") or "uncategorized", asked.get("entity") or ENTITY)
        run.state = asked.get("state") or "running"
        run.name = asked.get("displayName") or run.name
        run.group = asked.get("groupName") or run.group
        run.job_type = asked.get("jobType") or run.job_type
        run.notes = asked.get("notes") or run.notes
        run.tags = asked["tags"] if asked.get("tags") is not None else run.tags
        run.sweep = asked.get("sweep") or run.sweep
        run.raw_config |= json.loads(asked.get("config") or "{}")
        run.summary |= json.loads(asked.get("summaryMetrics") or "{}")
        return {"upsertBucket": {"bucket": _bucket(run), "inserted": inserted}}

    def _on_RunStoppedStatus(self, asked: Json) -> Json:
        return {"project": {"run": {"stopped": False}}}

    def _on_Run(self, asked: Json) -> Json:
        run = self.runs.get(asked["name"])
        return {"project": {"run": None if run is None else {**_bucket(run), "projectId": "1"}}}

    def _on_RunFiles(self, asked: Json) -> Json:
        run = self.runs[asked["name"]]
        nodes = [
            {"id": name, "name": name, "url": "", "directUrl": "", "sizeBytes": len(body), "mimetype": "", "updatedAt": "",
             "md5": "", "displayName": name}
            for name, body in run.files.items()
        ]  # fmt: skip
        page = {"endCursor": "", "hasNextPage": False}
        files = {"edges": [{"node": node, "cursor": node["id"]} for node in nodes], "pageInfo": page}
        return {"project": {"internalId": "1", "run": {"fileCount": len(nodes), "files": files}}}

    def _on_CreateRunFiles(self, asked: Json) -> Json:
        files = [{"name": name, "uploadUrl": f"{self.url}/run-files/{asked['run']}/{name}"} for name in asked["files"]]
        return {"createRunFiles": {"runID": asked["run"], "uploadHeaders": [], "files": files}}

    def _on_MarkRunFilesUploaded(self, _: Json) -> Json:
        return {"markRunFilesUploaded": {"success": True}}

    # Artifacts.

    def _on_ArtifactType(self, asked: Json) -> Json:
        return {"project": {"artifact": None}}

    def _on_CreateArtifact(self, asked: Json) -> Json:
        wanted = asked["input"]
        names = wanted.get("artifactCollectionNames") or [wanted["artifactCollectionName"]]
        versions = self.artifacts.setdefault(names[0], [])
        aliases = [entry["alias"] for entry in wanted.get("aliases") or []]
        artifact = next((known for known in versions if known.digest == wanted["digest"]), None)
        if artifact is None:
            metadata = json.loads(wanted.get("metadata") or "{}")
            run = wanted.get("runName") or ""
            artifact = Artifact(
                f"artifact{next(self._ids)}", names[0], wanted["artifactTypeName"], wanted["digest"], run, metadata=metadata
            )
            self._pending[artifact.id] = artifact
            artifact.wanted_aliases = aliases
        else:
            self._point(artifact, aliases)  # the same content makes no new version
        latest = {"id": versions[-1].id} if versions else None
        sequence = {"id": names[0], "latestArtifact": latest}
        return {"createArtifact": {"artifact": {"id": artifact.id, "state": artifact.state, "artifactSequence": sequence}}}

    def _point(self, artifact: Artifact, aliases: list[str]) -> None:
        """An alias belongs to one version of a collection."""
        for alias in aliases:
            for other in self.artifacts[artifact.name]:
                other.aliases = [kept for kept in other.aliases if kept != alias]
            artifact.aliases.append(alias)

    def _manifest(self, artifact_id: str) -> Json:
        url = f"{self.url}/artifact-files/{artifact_id}/wandb_manifest.json"
        return {"id": artifact_id, "file": {"id": artifact_id, "uploadUrl": url, "uploadHeaders": []}}

    def _on_CreateArtifactManifest(self, asked: Json) -> Json:
        return {"createArtifactManifest": {"artifactManifest": self._manifest(asked["artifactID"])}}

    def _on_UpdateArtifactManifest(self, asked: Json) -> Json:
        return {"updateArtifactManifest": {"artifactManifest": self._manifest(asked["artifactManifestID"])}}

    def _on_CreateArtifactFiles(self, asked: Json) -> Json:
        edges = []
        for wanted in asked["input"]["artifactFiles"]:
            owner, name = wanted["artifactID"], wanted["name"]
            url = f"{self.url}/artifact-files/{owner}/{name}"
            edges.append({"node": {"storagePath": f"{owner}/{name}", "uploadUrl": url, "uploadHeaders": [],
                                   "uploadMultipartUrls": None, "artifact": {"id": owner}}})  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _on_CommitArtifact(self, asked: Json) -> Json:
        artifact = self._pending[asked["artifactID"]]
        if artifact.state == "PENDING":
            versions = self.artifacts[artifact.name]
            artifact.version, artifact.state = len(versions), "COMMITTED"
            versions.append(artifact)
            self._point(artifact, list(dict.fromkeys([*artifact.wanted_aliases, "latest"])))
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}

    def _on_ArtifactByID(self, asked: Json) -> Json:
        artifact = self._pending[asked["id"]]
        run = self.runs[artifact.run]
        project = {"id": "P", "internalId": "1", "name": run.project, "entity": {"name": run.entity}}
        collection = {"__typename": "ArtifactSequence", "name": artifact.name, "project": project}
        aliases = [
            {"__typename": "ArtifactAlias", "id": alias, "alias": alias, "artifactCollection": collection}
            for alias in artifact.aliases
        ]
        sizes = [len(body) for name, body in artifact.files.items() if name != "wandb_manifest.json"]
        return {"artifact": {
            "__typename": "Artifact", "id": artifact.id, "artifactSequence": collection, "versionIndex": artifact.version,
            "artifactType": {"name": artifact.type}, "description": None, "metadata": json.dumps(artifact.metadata),
            "ttlDurationSeconds": -1, "ttlIsInherited": True, "tags": [], "historyStep": None, "state": artifact.state,
            "size": sum(sizes), "digest": artifact.digest, "digestAlgorithm": "MANIFEST_MD5", "commitHash": artifact.id,
            "fileCount": len(sizes), "createdAt": "2025-01-01T00:00:00Z", "updatedAt": "2025-01-01T00:00:00Z",
            "aliases": aliases,
        }}  # fmt: skip

    # Sweeps and agents.

    def _on_UpsertSweep(self, asked: Json) -> Json:
        if asked.get("id"):
            sweep = self.sweeps[asked["id"]]
            sweep.state = asked.get("state") or sweep.state
        else:
            config = yaml.safe_load(asked["config"])
            number = next(self._ids)
            sweep = Sweep(
                f"sweep{number:03d}", asked.get("projectName") or "uncategorized", asked.get("entityName") or ENTITY, config
            )
            self.sweeps[sweep.id] = sweep
            for trial, values in enumerate(_trials(config, random.Random(number))):
                run_id = f"{sweep.id}t{trial:02d}"
                sweep.parameters[run_id] = values
                arguments = {key: {"value": value} for key, value in values.items()}
                sweep.waiting.append({"type": "run", "run_id": run_id, "program": config.get("program"), "args": arguments})
        about = {"name": sweep.id, "project": _project(sweep.project, sweep.entity)}
        return {"upsertSweep": {"sweep": about, "configValidationWarnings": []}}

    def _on_SweepWithRuns(self, asked: Json) -> Json:
        sweep = self.sweeps.get(asked["sweep"])
        if sweep is None:
            return {"project": {"sweep": None}}
        nodes = [
            {**_bucket(run), "exitcode": None, "shouldStop": False, "failed": run.state == "failed", "stopped": False,
             "running": run.state == "running", "sampledHistory": []}
            for run in self.runs.values() if run.id in sweep.parameters
        ]  # fmt: skip
        about = {
            "id": sweep.id, "name": sweep.id, "method": sweep.config["method"], "state": sweep.state, "description": None,
            "config": yaml.safe_dump(sweep.config), "createdAt": None, "heartbeatAt": None, "updatedAt": None,
            "earlyStopJobRunning": False, "bestLoss": None, "controller": None, "scheduler": None,
            "runs": {"edges": [{"node": node} for node in nodes]},
        }  # fmt: skip
        return {"project": {"sweep": about}}

    _on_GetSweepState = _on_SweepWithRuns

    def _on_CreateAgent(self, asked: Json) -> Json:
        agent = f"agent{next(self._ids)}"
        self.agents[agent] = asked["sweep"]
        return {"createAgent": {"agent": {"id": agent}}}

    def _on_Heartbeat(self, asked: Json) -> Json:
        agent, running = asked["id"], json.loads(asked.get("runState") or "{}")
        commands = self._commands(self.sweeps[self.agents[agent]], agent, running)
        return {"agentHeartbeat": {"agent": {"id": agent}, "commands": json.dumps(commands)}}

    def _commands(self, sweep: Sweep, agent: str, running: Json) -> list[Json]:
        """One trial at a time for each agent, each trial to one agent; `exit` when none is left."""
        canceled = sweep.state in ("CANCELED", "FINISHED")
        if stop := [run_id for run_id in running if canceled or run_id in sweep.stopping]:
            return [{"type": "stop", "run_id": run_id} for run_id in stop]
        if running or sweep.state == "PAUSED":
            return []
        if canceled or not sweep.waiting:
            return [{"type": "exit"}]
        command = sweep.waiting.pop(0)
        sweep.given[command["run_id"]] = agent
        return [command]

    def requeue(self, run_id: str) -> None:
        """Hand a preempted trial out again, under the same id, as W&B does after `mark_preempting`."""
        sweep = next(sweep for sweep in self.sweeps.values() if run_id in sweep.parameters)
        arguments = {key: {"value": value} for key, value in sweep.parameters[run_id].items()}
        program = sweep.config.get("program")
        sweep.waiting.insert(0, {"type": "resume", "run_id": run_id, "program": program, "args": arguments})


class _Handler(BaseHTTPRequestHandler):
    lab: WandbServer

    def do_POST(self) -> None:
        body = self._body()
        path = urlsplit(self.path).path
        telemetry = path.startswith("/sdk/otel/")  # the client's own, not JSON
        asked = {} if telemetry else json.loads(body or b"{}")
        found = re.search(r"\b(?:query|mutation)\s+(\w+)", asked.get("query", ""))
        self.lab.received.append((found[1] if found else path, body))
        if self._faulty():
            return
        if path == "/graphql":
            self._answer(self.lab.graphql(asked))
        elif telemetry:
            self._answer({})
        elif match := re.fullmatch(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream", path):
            entity, project, run_id = map(unquote, match.groups())
            self._answer(self.lab.stream(entity, project, run_id, asked))
        else:
            self._answer({"error": f"no such path: {path}"}, 404)

    def do_PUT(self) -> None:
        body = self._body()
        self.lab.received.append((self.path, body))
        if not self._faulty():
            self.lab.put(urlsplit(self.path).path, body)
            self._answer({})

    def do_GET(self) -> None:
        if not self._faulty():
            self._answer({"error": "nothing is downloaded here"}, 404)

    def _body(self) -> bytes:
        body = self._raw_body()
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _raw_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _faulty(self) -> bool:
        time.sleep(self.lab.delay)
        if not self.lab.alive:
            self.close_connection = True
            return True  # without a word
        if self.lab.refusal is None or self.lab.refused not in self.path:
            return False
        self._answer({"errors": [{"message": "refused"}]}, self.lab.refusal)
        return True

    def _answer(self, content: Json, status: int = 200) -> None:
        body = json.dumps(content).encode()
        with contextlib.suppress(OSError):  # the client may have gone
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silence: the tests read the server's data, not its log."""


def _project(name: str | None, entity: str | None) -> Json:
    owner = entity or ENTITY
    return {"id": "P", "name": name or "uncategorized", "entity": {"id": "E", "name": owner}}


def _bucket(run: Run) -> Json:
    history, events = run.lines.get("wandb-history.jsonl", []), run.lines.get("wandb-events.jsonl", [])
    return {
        "id": f"bucket-{run.id}", "name": run.id, "displayName": run.name, "description": None, "state": run.state,
        "config": json.dumps(run.raw_config), "summaryMetrics": json.dumps(run.summary), "systemMetrics": "{}",
        "group": run.group, "jobType": run.job_type, "notes": run.notes, "tags": run.tags, "sweepName": run.sweep,
        "user": {"name": ENTITY, "username": ENTITY}, "project": _project(run.project, run.entity), "commit": None,
        "readOnly": False, "createdAt": None, "heartbeatAt": None, "historyLineCount": len(history),
        "eventsLineCount": len(events), "logLineCount": len(run.lines.get("output.log", [])),
        "historyTail": json.dumps(history[-1:]), "eventsTail": json.dumps(events[-1:]), "wandbConfig": json.dumps({"t": 1}),
        "historyKeys": {"lastStep": run.history[-1].get("_step", -1) if run.history else -1},
    }  # fmt: skip


def _trials(config: Json, rng: random.Random) -> Iterator[Json]:
    """All points of a grid; for random and bayes, `run_cap` points (10 without it) drawn at random."""
    if config["method"] == "grid":
        names, choices = zip(*_choices(config["parameters"]), strict=True)
        return (_nested(zip(names, point, strict=True)) for point in itertools.product(*choices))
    return (_draw(config["parameters"], rng) for _ in range(config.get("run_cap", 10)))


def _choices(parameters: Json, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    for name, about in parameters.items():
        if "parameters" in about:
            yield from _choices(about["parameters"], (*prefix, name))
        else:
            yield (*prefix, name), about.get("values", [about.get("value")])


def _nested(pairs: Any) -> Json:
    values: Json = {}
    for path, value in pairs:
        place = values
        for piece in path[:-1]:
            place = place.setdefault(piece, {})
        place[path[-1]] = value
    return values


def _draw(parameters: Json, rng: random.Random) -> Json:
    values: Json = {}
    for name, about in parameters.items():
        if "parameters" in about:
            values[name] = _draw(about["parameters"], rng)
        elif "min" in about:
            whole = isinstance(about["min"], int) and isinstance(about["max"], int)
            values[name] = rng.randint(about["min"], about["max"]) if whole else rng.uniform(about["min"], about["max"])
        else:
            values[name] = rng.choice(about.get("values", [about.get("value")]))
    return values


if __name__ == "__main__":
    with WandbServer(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as server:
        print(f"WANDB_BASE_URL={server.url}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
