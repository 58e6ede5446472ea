"""What beside a device's identity changes its times, as far as a program can read it: quality of service and heat.

On a Mac both are the system's own: `qos_class_self` (<pthread/qos.h>) of the thread that asks for predictions, and
`NSProcessInfo.thermalState` (Foundation). Of an iPhone coremltools 9.0 tells neither: its own app runs the model there.
A drift of the times is what then shows heat (`BenchmarkProtocol.drift_limit`).
"""

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

QOS = {0x21: "user interactive", 0x19: "user initiated", 0x15: "default", 0x11: "utility", 0x09: "background",
       0x00: "unspecified"}  # fmt: skip
THERMAL = ("nominal", "fair", "serious", "critical")

FOUNDATION = "/System/Library/Frameworks/Foundation.framework/Foundation"

Library = Callable[[str], Any]
"""Opens a dynamic library: `ctypes.CDLL`."""

OF_AN_IPHONE: Mapping[str, str] = {
    "qos": "not told: the model runs in coremltools' app on the iPhone",
    "thermal_state": "not told: coremltools reads none from an iPhone",
}


def of_this_mac(library: Library = ctypes.CDLL) -> dict[str, str]:
    """`qos` of this thread and `thermal_state` now; why one is not told, where the system's libraries do not have it: a
    time is worth something without."""
    return {"qos": _told(_qos, library), "thermal_state": _told(_thermal_state, library)}


def _told(read: Callable[[Library], str], library: Library) -> str:
    try:
        return read(library)
    except (OSError, AttributeError) as error:
        return f"not told: {' '.join(str(error).split())[:200]}"


def _qos(library: Library) -> str:
    system = library("/usr/lib/libSystem.dylib")
    system.qos_class_self.restype = ctypes.c_uint
    number = int(system.qos_class_self())
    return QOS.get(number, f"0x{number:02x}")


def _thermal_state(library: Library) -> str:
    """[[NSProcessInfo processInfo] thermalState]."""
    library(FOUNDATION)  # which has the class
    objc = library("/usr/lib/libobjc.dylib")
    objc.objc_getClass.restype = objc.sel_registerName.restype = ctypes.c_void_p
    objc.objc_getClass.argtypes = objc.sel_registerName.argtypes = [ctypes.c_char_p]
    objc.objc_msgSend.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    objc.objc_msgSend.restype = ctypes.c_void_p
    process = objc.objc_msgSend(objc.objc_getClass(b"NSProcessInfo"), objc.sel_registerName(b"processInfo"))
    objc.objc_msgSend.restype = ctypes.c_long
    state = int(objc.objc_msgSend(process, objc.sel_registerName(b"thermalState")))
    return THERMAL[state] if 0 <= state < len(THERMAL) else str(state)
