"""Every limit that untrusted input is held to; one constant each, one test each.

Implements section 12, "Limits", of docs/design/format.md. Sizes are in bytes.
"""

from __future__ import annotations

import re
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

MAX_CHUNK_SIZE: Final = 8 * MIB
MAX_FRAME_SIZE: Final = 16 * MIB
MAX_ZSTD_WINDOW: Final = 8 * MIB

MAX_PACK_LENGTH: Final = 128 * MIB
MAX_PACK_CHUNKS: Final = 65_536
MAX_DIRECTORY_LENGTH: Final = 8 * MIB

MAX_SEGMENT_ENTRIES: Final = 1 << 31
MAX_FANOUT_BITS: Final = 24

MAX_PAGE_LENGTH: Final = 512 * KIB
MAX_LIST_LENGTH: Final = 512 * KIB
MAX_MANIFEST_LENGTH: Final = 16 * MIB
MAX_REF_LENGTH: Final = 16 * MIB
MAX_CONFIG_LENGTH: Final = 64 * KIB
MAX_GC_LENGTH: Final = 64 * KIB
MAX_CONDEMNED_LENGTH: Final = 64 * MIB

MAX_INLINE_CHUNKS: Final = 4096
MAX_BLOB_DEPTH: Final = 4
MAX_VERSION_FILES: Final = 50_000_000
MAX_FILE_SIZE: Final = 1 << 53

MAX_PATH_PART: Final = 255
MAX_PATH_LENGTH: Final = 4096
MAX_PATH_DEPTH: Final = 128
MAX_LINK_TARGET: Final = 4096
MAX_NAME_LENGTH: Final = 201
NAME: Final = re.compile(r"(?!.*(?:\.\.|//))[a-z0-9](?:[a-z0-9._/-]{0,199}[a-z0-9._-])?")
"""What a dataset or tag may be called, as a whole."""

MAX_MESSAGE_LENGTH: Final = 4096

MAX_COMMIT_NONCES: Final = 64
