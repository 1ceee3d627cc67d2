"""As whom does weir speak to a cluster without Kerberos?"""

import getpass
from collections.abc import Mapping


def hadoop_user(environment: Mapping[str, str]) -> str:
    """Return the user that HADOOP_USER_NAME names, as Hadoop's own clients take it, else the one who runs this process."""
    return environment.get("HADOOP_USER_NAME") or getpass.getuser()
