"""What a command uses: `measure.py COMMAND...` prints wall and processor time and peak memory.

Its threads and the children that it waited for count; what it prints goes to standard error.
"""

import json
import os
import sys
import time

start = time.perf_counter()
child = os.posix_spawnp(
    sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, used = os.wait4(child, 0)
print(json.dumps({
    "wall_s": time.perf_counter() - start,
    "processor_s": used.ru_utime + used.ru_stime,
    "peak_bytes": used.ru_maxrss * 1024,
}))
sys.exit(os.waitstatus_to_exitcode(status) != 0)
