"""From an executor's files to what goes on chain: blobs first, then a manifest that names them, then its root."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from gesso.blobs import BlobStore, LocalBlobs
from gesso.chain import Chain
from gesso_node.executors.port import Finished, ImageFile, Job, executor_name
from gesso_node.traces.run_backup import MAX_INDEX_BYTES, pieces_of
from gesso_protocol.errors import GessoError, WalletError
from gesso_protocol.handover import Handover, typed_handover
from gesso_protocol.ids import Address, BlobRef, TaskId
from gesso_protocol.result import ImageEntry, ResultManifest, result_root
from gesso_protocol.spec import spec_ref
from gesso_protocol.training.checkpoint import KeptCheckpoint, typed_checkpoint

log = structlog.get_logger("gesso.node.results")


async def publish_result(
    blobs: BlobStore, job: Job, outcome: Finished, node: Address, trace_backup: BlobRef | None = None
) -> ResultManifest:
    """Put pictures and manifest; returns the manifest. Raises what the store raises, and nothing is half put:
    the manifest goes last, so whoever has it can have all of it. `trace_backup` is only named: it may follow later.
    """
    images = [await picture_entry(blobs, image) for image in outcome.images]
    manifest = ResultManifest(
        task=job.binding.task,
        node=node,
        executor=executor_name(outcome.executor),
        spec=spec_ref(job.spec),
        model_manifest=job.manifest,
        images=tuple(images),
        profile=outcome.profile,
        trace_root=outcome.trace_root,
        trace_backup=trace_backup,
    )
    await blobs.put(manifest.encode(), expect=manifest.ref)
    return manifest


async def picture_entry(blobs: BlobStore, image: ImageFile) -> ImageEntry:
    """Put one picture and name it."""
    return ImageEntry(
        index=image.index,
        blob=await blobs.put(image.path),
        sha256=image.sha256.hex(),
        width=image.width,
        height=image.height,
        seed=image.seed,
    )


def signed_handover(chain: Chain, result: ResultManifest, claim: str | None = None) -> Handover:
    """Our word for a result that is about to be committed, with the transaction of a `claim` that is not mined yet.
    Raises WalletError when the chain was opened to read."""
    if chain.wallet is None:
        raise WalletError("a handover needs the node's wallet")
    board, root = chain.settings.contracts.task_board, result_root(result)
    document = typed_handover(chain.chain_id, board, result.task, result.ref, root, result.trace_root)
    signature = chain.wallet.sign_typed(document).hex()
    return Handover(
        manifest=result.ref, result_root=root, trace_root=result.trace_root, signature=signature, claim=claim
    )


def signed_checkpoint(chain: Chain, task: TaskId, state: BlobRef, step: int, size: int, seed: bytes) -> KeptCheckpoint:
    """Our word for where a training can go on without us. Raises WalletError when the chain was opened to read."""
    if chain.wallet is None:
        raise WalletError("a checkpoint needs the node's wallet")
    board = chain.settings.contracts.task_board
    document = typed_checkpoint(chain.chain_id, board, task, state, step, size, seed)
    signature = chain.wallet.sign_typed(document).hex()
    return KeptCheckpoint(state=state, step=step, size=size, seed=seed.hex(), signature=signature)


class Outbox:
    """Sees to it that stores which were away at publishing time get a result too."""

    def __init__(self, local: LocalBlobs | None, remotes: Sequence[BlobStore]) -> None:
        self._local = local
        self._remotes = tuple(remotes)

    async def offer(self, result: ResultManifest) -> bool:
        """Give every store what it lacks; true when all have all of it."""
        if self._local is None:
            return True
        complete = True
        for remote in self._remotes:
            try:
                for ref in (*(image.blob for image in result.images), result.ref, *await self._copy(result)):
                    if not await remote.has(ref):
                        await remote.put(self._local.path(ref), expect=ref)
            except GessoError as error:
                complete = False
                log.info("results.store-away", task=result.task.short, code=error.code)
        return complete

    async def _copy(self, result: ResultManifest) -> tuple[BlobRef, ...]:
        """The backup of the trace as far as it is still here: its index last, so whoever has it can have all of it."""
        assert self._local is not None
        ref = result.trace_backup
        if ref is None or not await self._local.has(ref):
            return ()
        try:
            pieces = pieces_of(await self._local.get(ref, max_bytes=MAX_INDEX_BYTES))
        except GessoError:
            pieces = ()  # a picture's is one piece, and larger than any index
        return (*[piece for piece in pieces if await self._local.has(piece)], ref)
