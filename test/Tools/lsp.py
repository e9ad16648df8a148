# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""kv-lsp-server knows the dialect: an editor shows the errors of a verifier."""

import json
import subprocess

URI = "file:///program.mlir"
# Rows of 4 channels, a cache of 8.
PROGRAM = """\
!kv = !kvcache.cache<?B x 16N x 8D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @f(%rows: memref<?x4xf32>, %cache: !kv, %slots: !slots) {
  kvcache.index_copy %rows into %cache at %slots : memref<?x4xf32> into !kv at !slots
  return
}
"""
EDITED = PROGRAM.replace("?x4xf32", "?x8xf32")


def message(method, params, **kwargs):
    body = {"jsonrpc": "2.0", "method": method, "params": params, **kwargs}
    text = json.dumps(body).encode()
    return b"Content-Length: %d\r\n\r\n%s" % (len(text), text)


def messages(stream):
    while stream:
        head, _, rest = stream.partition(b"\r\n\r\n")
        fields = dict(line.split(": ") for line in head.decode().splitlines())
        length = int(fields["Content-Length"])
        assert len(rest) >= length, f"a message is cut short: {rest}"
        yield json.loads(rest[:length])
        stream = rest[length:]


def document(version, **kwargs):
    return {"textDocument": {"uri": URI, "version": version, **kwargs}}


session = [
    message("initialize", {"capabilities": {}, "processId": None}, id=0),
    message("initialized", {}),
    message("textDocument/didOpen", document(1, languageId="mlir", text=PROGRAM)),
    message(
        "textDocument/didChange",
        {**document(2), "contentChanges": [{"text": EDITED}]},
    ),
    message("shutdown", None, id=1),
    message("exit", None),
]
server = subprocess.run(
    ["kv-lsp-server"], input=b"".join(session), capture_output=True, timeout=60
)
assert server.returncode == 0, server.stderr.decode()

answers = list(messages(server.stdout))
capabilities = next(a for a in answers if a.get("id") == 0)["result"]["capabilities"]
assert capabilities["hoverProvider"], capabilities
assert any(a.get("id") == 1 for a in answers), "shutdown was not answered"

published = [
    a["params"] for a in answers if a.get("method") == "textDocument/publishDiagnostics"
]
assert [p["version"] for p in published] == [1, 2], published
assert [p["uri"] for p in published] == [URI, URI], published
opened, edited = (p["diagnostics"] for p in published)
assert len(opened) == 1, opened
assert "index_copy_c2" in opened[0]["message"], opened
assert opened[0]["range"]["start"]["line"] == 3, opened
assert edited == [], edited
