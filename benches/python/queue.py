"""Items through the queues of asyncio: one JSON object a case, {"queue", "case", "ns", "minimum"}, in ns per item.

Producers put integers and consumers take as many, in turns of one event loop; a round of each case after the other,
so that a noisy machine is as noisy to all. No `task_done`: it is the cheapest use there is.
"""

import asyncio
import gc
import json
import statistics
import sys
import time

CAPACITY = 1024
ITEMS = 40_000
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 15

QUEUES = {
    "Queue": asyncio.Queue,
    "PriorityQueue": asyncio.PriorityQueue,
    "LifoQueue": asyncio.LifoQueue,
}
CASES = {"1p1c": 1, "4p4c": 4}


async def produce(queue, count):
    for number in range(count):
        # Eight priorities, as plain integers: what a heap of Python compares the fastest.
        await queue.put(number & 7)


async def consume(queue, count):
    for _ in range(count):
        await queue.get()


async def through(make, pairs):
    queue = make(CAPACITY)
    begin = time.perf_counter_ns()
    await asyncio.gather(
        *(produce(queue, ITEMS // pairs) for _ in range(pairs)),
        *(consume(queue, ITEMS // pairs) for _ in range(pairs)),
    )
    return (time.perf_counter_ns() - begin) / ITEMS


def main():
    gc.disable()
    costs = {(name, case): [] for name in QUEUES for case in CASES}
    for _ in range(ROUNDS):
        for (name, case), rounds in costs.items():
            rounds.append(asyncio.run(through(QUEUES[name], CASES[case])))
    for (name, case), rounds in costs.items():
        row = {"queue": name, "case": case, "ns": statistics.median(rounds), "minimum": min(rounds)}
        print(json.dumps(row), flush=True)


main()
