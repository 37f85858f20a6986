"""Custom actions inside the server process: the same contract as an action server, without HTTP."""

from __future__ import annotations

import asyncio
import json as json_module
import logging
from typing import Any

from rasa.utils.endpoints import ClientResponseError, EndpointConfig
from rasa_sdk.executor import ActionExecutor
from rasa_sdk.interfaces import ActionExecutionRejection

logger = logging.getLogger(__name__)


class InProcessActions(EndpointConfig):
    """Stands where Rasa expects the address of an action server and runs the actions itself.

    There is then no second process that can be down, and no copy of the conversation on a wire.

    Args:
        package: the package with the actions.
        seconds: how long one action may take.
    """

    def __init__(self, package: str = "actions", seconds: float = 5.0) -> None:
        super().__init__(url="in-process", enable_selective_domain=True)
        self._seconds = seconds
        self._executor = ActionExecutor()
        self._executor.register_package(package)

    async def request(
        self,
        method: str = "post",
        subpath: str | None = None,
        content_type: str | None = "application/json",
        compress: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Run the action that Rasa asks for and return its events and responses.

        Raises:
            ClientResponseError: 400 when the action declines to run, as an action server says it.
            asyncio.TimeoutError: the action took too long.
        """
        call = kwargs["json"]
        try:
            return await asyncio.wait_for(self._run(call), timeout=self._seconds)
        except ActionExecutionRejection as rejection:
            body = {"action_name": rejection.action_name, "error": rejection.message}
            raise ClientResponseError(400, "rejected", json_module.dumps(body)) from rejection

    async def _run(self, call: Any) -> Any:
        try:
            return await self._executor.run(call)
        except SystemExit as error:  # some libraries raise it; it would end the whole server
            raise RuntimeError("The action wanted to end the process.") from error
