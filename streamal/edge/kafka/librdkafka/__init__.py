"""Apache Kafka over confluent-kafka (librdkafka): the second client of the live transport, which needs less CPU.

It needs the extra ``confluent``. `streamal.edge.kafka.python` creates and compares topics for both
clients.

librdkafka has traps too. Each line that avoids one names it, R1 to R14.

R1  pause() and resume() soon after an assign() may lose the partition for good (librdkafka #2190, #5591): a partition
    is halted by taking it out of the client's assignment, and taken up again at an explicit offset
R2  ``consume(n, timeout)`` waits for n messages or the whole timeout: it is asked for what is there, `poll` does the
    waiting
R3  the wait after CONCURRENT_TRANSACTIONS and the like is ``retry.backoff.ms``, 100 ms by default
R4  a fetch whose queue was full is put off by ``fetch.queue.backoff.ms``, a second by default
R5  a position does not move over markers and aborted records: only the end-of-partition event tells that there is
    nothing more
R6  a transaction that is refused for another reason than its own surfaces as that reason at the next call, or behind
    the failure to abort it: `translate_errors` looks at causes too
R7  log lines wait in memory until the handle is polled
R8  a fatal error is raised out of poll() and flush(), and the callbacks that follow it there make a SystemError of it
R9  send_offsets_to_transaction() ignores its time-out when the broker goes (librdkafka #5456): `call_with_timeout`
R10 a static member that has lost its session, and has not been polled since, presents itself without its member id,
    and is told that another has come: so callbacks are served before every rewind. What remains ends as Fenced, and
    the supervisor starts us again
R11 a commit's metadata are written with a final NUL, and read up to one, beyond their end if need be: whoever else
    commits in the group has to end them so too
R12 a consumer's close() may wait for ever amid a rebalance (librdkafka #4527, #4884), and the binding keeps the
    interpreter meanwhile, so that no thread and no signal handler runs: a member unsubscribes before it closes, and a
    static one is only destroyed
R13 an administrator's client that asks for a group, and gets no answer for some 20 s, ends the whole process by a
    failed assertion (librdkafka #3663, #4605): a consumer is asked, which belongs to that group and never joins it
R14 behind a batch that it cannot read the client goes on at an offset that does not exist, and later reports that one
    as out of range: a reader is replaced, and a worker takes the partition up again
"""

from streamal.edge.kafka.base_transport import WorkerOptions
from streamal.edge.kafka.librdkafka.connection import Connection
from streamal.edge.kafka.librdkafka.log import ConfluentLog
from streamal.edge.kafka.librdkafka.transport import ConfluentTransport

__all__ = ["ConfluentLog", "ConfluentTransport", "Connection", "WorkerOptions"]
