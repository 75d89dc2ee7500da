"""The programs of the article on asyncio, without their sleeps and prints: one JSON object for the program that the
argument names, {"program", "ns", "minimum", "peak_kib"}, in ns per operation.

Written anew for the measurement, by the plainest means of asyncio, and mended where the article's program does not
run (its queue, its container, its chain without a handler). A process for each, so that the peak is its own.
"""

import asyncio
import contextlib
import json
import resource
import statistics
import sys
import time
from collections import deque
from unittest.mock import AsyncMock

ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 15


async def simple_coroutine():
    return "Coroutine completed"


async def coroutine(count):
    for _ in range(count):
        await simple_coroutine()


async def event_loop(count):
    for _ in range(count // 2):
        first = asyncio.create_task(simple_coroutine())
        second = asyncio.create_task(simple_coroutine())
        await asyncio.gather(first, second)


async def fetch_data(site):
    return site


async def futures_and_tasks(count):
    for _ in range(count // 6):
        results = await asyncio.gather(*(fetch_data(site) for site in range(3)))
        await asyncio.gather(*(fetch_data(data) for data in results))


async def producer_consumer(count):
    queue = asyncio.Queue(maxsize=10)

    async def produce():
        for number in range(count // 2):
            await queue.put(number)

    async def consume():
        while True:
            await queue.get()
            queue.task_done()

    consumers = [asyncio.create_task(consume()) for _ in range(3)]
    await asyncio.gather(produce(), produce())
    await queue.join()
    for consumer in consumers:
        consumer.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)


@contextlib.asynccontextmanager
async def acquired(name):
    try:
        yield name
    finally:
        await simple_coroutine()


async def context_manager(count):
    for _ in range(count):
        async with acquired("database") as database:
            await fetch_data(database)


async def numbers(count):
    for number in range(count):
        yield number


async def iterators_and_generators(count):
    total = 0
    async for number in numbers(count):
        total += number
    assert total == count * (count - 1) // 2


class Chain:
    def __init__(self, parts, handler):
        self.parts, self.handler = parts, handler

    async def process(self, request):
        def at(index):
            async def handle(request):
                if index == len(self.parts):
                    return await self.handler(request)
                return await self.parts[index](request, at(index + 1))

            return handle

        return await at(0)(request)


async def log(request, next_handler):
    return await next_handler(request)


async def authenticate(request, next_handler):
    if not request["authenticated"]:
        raise PermissionError("unauthorized")
    return await next_handler(request)


async def middleware(count):
    chain = Chain([log, authenticate], fetch_data)
    request = {"id": 1, "authenticated": True}
    for _ in range(count):
        await chain.process(request)


class Emitter:
    def __init__(self):
        self.listeners = {}

    def on(self, name, listener):
        self.listeners.setdefault(name, []).append(listener)

    async def emit(self, name, event):
        listeners = self.listeners.get(name, ())
        return await asyncio.gather(*(listener(event) for listener in listeners), return_exceptions=True)


async def event_emitter(count):
    emitter = Emitter()
    emitter.on("user_created", fetch_data)
    emitter.on("user_created", fetch_data)
    for _ in range(count):
        await emitter.emit("user_created", 1)


class Container:
    """The article's, where it does not recurse for ever: what is needed is built first."""

    def __init__(self):
        self.factories, self.instances = {}, {}

    def register(self, name, factory, needs=()):
        self.factories[name] = (factory, needs)

    async def get(self, name):
        if name not in self.instances:
            factory, needs = self.factories[name]
            arguments = {need: await self.get(need) for need in needs}
            self.instances[name] = await factory(**arguments)
        return self.instances[name]


async def new_database():
    return object()


async def new_cache(database):
    return [database]


async def new_service(database, cache):
    return {"database": database, "cache": cache}


async def di_container(count):
    for _ in range(count):
        container = Container()
        container.register("database", new_database)
        container.register("cache", new_cache, ("database",))
        container.register("service", new_service, ("database", "cache"))
        await container.get("service")


class Batcher:
    """Collects items, and gives each its own result: the article's throws them away."""

    def __init__(self, size):
        self.size, self.buffer = size, deque()

    async def submit(self, item):
        answer = asyncio.get_running_loop().create_future()
        self.buffer.append((item, answer))
        if len(self.buffer) >= self.size:
            batch, self.buffer = self.buffer, deque()
            for item, answer in batch:
                answer.set_result(item)
        return await answer


async def batch_processor(count):
    batcher = Batcher(3)

    async def caller():
        for number in range(count // 3):
            await batcher.submit(number)

    await asyncio.gather(caller(), caller(), caller())


async def connection_pool(count):
    idle = asyncio.Queue()
    for connection in range(5):
        idle.put_nowait(connection)

    async def caller():
        for _ in range(count // 10):
            connection = await idle.get()
            try:
                await asyncio.sleep(0)
            finally:
                await idle.put(connection)

    await asyncio.gather(*(caller() for _ in range(10)))


class CircuitBreaker:
    def __init__(self, threshold):
        self.threshold, self.failures, self.state = threshold, 0, "closed"

    async def call(self, operation):
        if self.state == "open":
            raise ConnectionError("the breaker is open")
        try:
            return await operation()
        except Exception:
            self.failures += 1
            if self.failures >= self.threshold:
                self.state = "open"
            raise


async def retried(attempts, call, operation):
    for attempt in range(attempts):
        try:
            return await call(operation)
        except Exception:
            if attempt + 1 == attempts:
                raise
            await asyncio.sleep(2**attempt)


async def retry_and_breaker(count):
    breaker = CircuitBreaker(5)
    for _ in range(count):
        await retried(3, breaker.call, simple_coroutine)


async def testing(count):
    client = AsyncMock()
    client.get.return_value = 1

    async def user_data(number):
        return await client.get(f"/users/{number}")

    for _ in range(count // 100):
        await asyncio.gather(*(user_data(number) for number in range(100)), return_exceptions=True)


# What is run, and how many operations make a round.
PROGRAMS = {
    "00_coroutine": (coroutine, 200_000),
    "01_event_loop": (event_loop, 10_000),
    "02_futures_and_tasks": (futures_and_tasks, 12_000),
    "03_producer_consumer": (producer_consumer, 40_000),
    "04_context_manager": (context_manager, 40_000),
    "05_iterators_and_generators": (iterators_and_generators, 100_000),
    "06_middleware": (middleware, 40_000),
    "07_event_emitter": (event_emitter, 5_000),
    "08_di_container": (di_container, 10_000),
    "09_batch_processor": (batch_processor, 30_000),
    "10_connection_pool": (connection_pool, 20_000),
    "11_retry_and_breaker": (retry_and_breaker, 100_000),
    "12_testing": (testing, 1_000),
}


def main():
    program, count = PROGRAMS[sys.argv[1]]
    rounds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter_ns()
        asyncio.run(program(count))
        rounds.append((time.perf_counter_ns() - begin) / count)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row = {"program": sys.argv[1], "ns": statistics.median(rounds), "minimum": min(rounds), "peak_kib": peak}
    print(json.dumps(row))


main()
