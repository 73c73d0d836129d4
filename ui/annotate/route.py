"""POST /recorder/ACTION: where the recorder asks, a route of the studio's own beside Gradio's.

An event of the page costs a queue, a stream of events and a new copy of each component that it
answers to, which stays in the session. Saves come each second from everybody who records.
Borders, sizes and sessions (ui.guard) stand before this route as before Gradio's.
"""

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ui.annotate.tab import answer
from ui.guard.sessions import login_of
from ui.workspace import Workspace

LISTENING = ("align", "propose")  # a minute each, in a process of their own
NUM_ANSWERING, NUM_LISTENING = 32, 4  # threads; most wait for the disk, together
LOGGED_OUT = (
    "You are logged out. Your take is kept in this browser: load the page anew and log in, and it "
    "is offered again."
)


def recorder_route(workspace: Workspace) -> Route:
    """To be put before Gradio's routes."""
    answering, listening = CapacityLimiter(NUM_ANSWERING), CapacityLimiter(NUM_LISTENING)

    async def ask(request: Request) -> Response:
        name, action = login_of(request.scope), request.path_params["action"]
        if not workspace.allows("annotator", name):
            return JSONResponse({"detail": LOGGED_OUT}, status_code=401)

        question = await request.body()
        limiter = listening if action in LISTENING else answering
        reply = await to_thread.run_sync(
            answer, workspace, name or "annotator", action, question, limiter=limiter
        )
        return Response(reply, media_type="application/json")

    return Route("/recorder/{action}", ask, methods=["POST"])
