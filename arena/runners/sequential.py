"""All episodes in this process, in one event loop."""

from __future__ import annotations

from arena.runners.desk import Desk
from arena.runners.job import Job
from arena.runners.play import Watch, play, watched
from arena.runners.tally import Tally


async def run(job: Job, watch: Watch) -> Tally:
    """Play what is missing. Raises ResultsError, RecordingError."""
    desk = Desk(job)
    try:
        places = job.experiment.settings.episodes_in_flight
        return await watched(play(desk, job.experiment, job.backend, places), desk, watch)
    finally:
        await desk.close()
