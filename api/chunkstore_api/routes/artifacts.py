"""The routes of a job platform: what an execution puts out lies in a dataset of its name."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from chunkstore.address import Address
from chunkstore_api.context import READ, Served
from chunkstore_api.pages import entries_page
from chunkstore_api.routes.datasets import AfterPath, Limit
from chunkstore_api.routes.files import SENDING_FILE, send_file
from chunkstore_api.routes.uploads import TAKING_FILE, take_file
from chunkstore_api.schemas import Entries

router = APIRouter(tags=["artifacts"])

OUTPUTS = "outputs"
ExecId = Annotated[str, Path(description="the execution: a dataset", examples=["job42"])]
FileName = Annotated[str, Path(description="the path below `outputs/`", examples=["model.bin"])]
DOWNLOAD = "/artifacts/{exec_id:dataset}/download/{filename:file}"


@router.head(DOWNLOAD, operation_id="head_artifact", **SENDING_FILE)
@router.get(DOWNLOAD, operation_id="get_artifact", **SENDING_FILE)
def get_artifact(request: Request, served: Served, exec_id: ExecId, filename: FileName) -> Response:
    """Send an output of an execution: the file `outputs/{filename}` of its dataset."""
    return send_file(request, served, Address(exec_id, "latest", f"{OUTPUTS}/{filename}"))


@router.put(
    "/artifacts/{exec_id:dataset}/upload/{filename:file}",
    operation_id="put_artifact",
    **TAKING_FILE,
)
async def put_artifact(
    request: Request, served: Served, exec_id: ExecId, filename: FileName
) -> Response:
    """Take an output of an execution in, beside its others."""
    return await take_file(request, served, exec_id, f"{OUTPUTS}/{filename}")


@router.get(
    "/artifacts/{exec_id:dataset}",
    dependencies=READ,
    operation_id="list_artifacts",
)
def list_artifacts(
    served: Served, exec_id: ExecId, limit: Limit = 1000, after: AfterPath = ""
) -> Entries:
    """List the outputs of an execution."""
    return entries_page(served.store, Address(exec_id, "latest", OUTPUTS), limit, after)
