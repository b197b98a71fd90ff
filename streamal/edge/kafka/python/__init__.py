"""Apache Kafka over kafka-python: the default client of the live transport.

kafka-python 3.0 has traps. Each line that avoids one names it, K1 to K17, and each has a test that fails without that
line (tests/test_kafka_defects.py, tests/test_kafka_trouble.py).

K1  transaction calls wait without a limit, and after a short outage for ever (mended in 3.1): `patch_producer`,
    `call_with_timeout`
K2  a commit without flush() disables ``linger_ms`` for good: flush() comes before every commit
K3  the wait after CONCURRENT_TRANSACTIONS is ``retry_backoff_ms``, 100 ms by default, at almost every transaction
K4  fencing surfaces as other errors around it: `translate_errors` looks at causes, arguments and even texts
K5  flush() returns in silence when records have failed: every future is looked at
K6  a member whose static identity was taken over is told so only by the next commit: polling goes on in silence
K7  a group's leader that joins before it has seen the topics' metadata may assign nothing, and leave it at that
K8  records that were fetched before their partition was paused may be lost sight of, and with them the partition
K9  asked for the ends of several partitions, the client fails on those whose leader it does not know yet
K10 the answer to a JoinGroup that comes between two polls is thrown away, and the whole group joins anew
K11 send() never waits, so nothing bounds what waits: no step is sent before the last one is settled
K12 close(timeout=0) fails, and closes nothing, where there are records that cannot be sent: its thread is ended by hand
K13 the offsets of an aborted transaction are sent again with those of the producer's next one
K14 after a broker has failed a producer may never deliver again, whatever it is given: it is replaced
K15 send() makes the text of a log line for each record, written or not, and looks at much that cannot change within a
    step: `_send` hands records to its accumulator (half the time)
K16 a compressed batch is inflated whole, whatever comes out (300 kB may be 300 MB): `limit_inflating`
K17 a batch that cannot be read makes poll() search a finished generator for ever: `name_unreadable`
"""

from streamal.edge.kafka.base_transport import WorkerOptions
from streamal.edge.kafka.python.connection import Connection
from streamal.edge.kafka.python.log import KafkaLog
from streamal.edge.kafka.python.topics import TopicSettings, create_topics, describe_topics, differences, group_members
from streamal.edge.kafka.python.transport import KafkaTransport

__all__ = [
    "Connection",
    "KafkaLog",
    "KafkaTransport",
    "TopicSettings",
    "WorkerOptions",
    "create_topics",
    "describe_topics",
    "differences",
    "group_members",
]
