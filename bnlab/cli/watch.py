"""`python -m bnlab watch`: what trains into a store, seen from any terminal of any machine that has its disk."""

import time
from contextlib import suppress

from bnlab import live
from bnlab.cli.common import Arguments, settings
from bnlab.errors import StoreError
from bnlab.progress import Watcher
from bnlab.store import Store
from bnlab.words import count


def run(arguments: Arguments) -> int:
    """Show it until nobody trains there any more."""
    store = Store.read(settings(arguments).store)
    watcher = Watcher(store)
    watcher.look()
    began = not watcher.idle
    with live.display(at_once=True) as show:
        while not watcher.idle:
            show(watcher)
            time.sleep(live.LOOK)
            with suppress(StoreError, OSError):  # a disk may recover
                watcher.look()
    done = f": {watcher.done} of {count(len(watcher.planned), 'Run')} there" if watcher.planned else ""
    left = f", {count(len(watcher.now), 'Run')} interrupted" if watcher.now else ""
    print(f"nothing trains {'any more' if began else 'now'} in {store.path}{done}{left}")
    return 0
