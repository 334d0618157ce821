#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of fuzz-tar, fuzz-zfile, the traces, and of what registries say: small files built here by
hand, and pieces of golden files.  Usage: tests/fuzz/make-seeds.py (no arguments; the output is the same each time)."""
import json
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, '..', 'golden')

TABLE = []
for value in range(256):
    for _ in range(8):
        value = value >> 1 ^ 0x82F63B78 if value & 1 else value >> 1
    TABLE.append(value)


def crc(state, data):
    """CRC-32C without inversion."""
    for byte in data:
        state = state >> 8 ^ TABLE[(state ^ byte) & 0xff]
    return state


def write(target, name, data):
    folder = os.path.join(HERE, 'corpus', target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), 'wb') as out:
        out.write(data)


def golden(name):
    with open(os.path.join(GOLDEN, name), 'rb') as file:
        return file.read()


# tar

def tar_header(kind, size, magic=b'ustar\x0000', name=b'layer'):
    raw = bytearray(512)
    raw[0:len(name)] = name
    raw[124:124 + len(size)] = size
    raw[257:265] = magic
    raw[156] = kind
    raw[148:156] = b' ' * 8
    raw[148:155] = b'%06o\0' % sum(raw)
    return bytes(raw)


def padded(data):
    return data + bytes(-len(data) % 512)


def tar_seeds():
    payload, end = b'p' * 700, bytes(1024)
    plain = tar_header(ord('0'), b'00000001274\0') + padded(payload) + end
    write('tar', 'plain', plain)
    write('tar', 'no-end', plain[:-1024])
    write('tar', 'cut', plain[:1000])
    write('tar', 'gnu', tar_header(0, b'%11o ' % 700, b'ustar  \0') + padded(payload) + end)
    write('tar', 'base256',
          tar_header(ord('0'), b'\x80' + bytes(9) + b'\x02\xbc') + padded(payload) + end)
    for name, records in (('pax', b'12 size=700\n'), ('pax-two', b'9 path=x\n12 size=700\n'),
                          ('pax-bad-length', b'99 size=700\n'), ('pax-bad-size', b'10 size=-\n')):
        write('tar', name, tar_header(ord('x'), b'%011o\0' % len(records)) + padded(records) +
              tar_header(ord('0'), b'0') + padded(payload) + end)
    write('tar', 'global', tar_header(ord('g'), b'%011o\0' % 9) + padded(b'9 a=bcde\n') + plain)
    write('tar', 'link', tar_header(ord('2'), b'00000000000\0') + end)
    write('tar', 'reference', golden('tags/layer0.obd')[:2048])


# ZFile

def lz4_block(data):
    """Literals only."""
    n, out = len(data), bytearray()
    if n < 15:
        return bytes([n << 4]) + data
    out.append(0xf0)
    n -= 15
    while n >= 255:
        out.append(255)
        n -= 255
    out.append(n)
    return bytes(out) + data


def zstd_frame(data):
    """One raw block, or one of a repeated byte, without a content size."""
    head = b'\x28\xb5\x2f\xfd\x00\x58'
    if data == data[:1] * len(data):
        return head + struct.pack('<I', len(data) << 3 | 3)[:3] + data[:1]
    return head + struct.pack('<I', len(data) << 3 | 1)[:3] + data


MAGIC = b'ZFile\0\1\0' + bytes.fromhex('74756a692e79796640416c6962616261')


def zfile_part(flags, index, blocks, size, index_crc, block_size, algorithm, verify):
    raw = MAGIC + struct.pack('<IIQQQQIIIBBBxxxxxIB', 96, 0, flags, index, blocks, size, index_crc,
                              0, block_size, algorithm, 0, 0, 0, verify)
    raw += bytes(512 - len(raw))
    return raw[:28] + struct.pack('<I', crc(0, raw)) + raw[32:]


def zfile(blocks, size, block_size, algorithm, verify=1, header_flags=0x1b):
    body, table = b'', b''
    for block in blocks:
        if verify:
            block += struct.pack('<I', crc(100007, block))
        body += block
        table += struct.pack('<I', len(block))
    values = (512 + len(body), len(blocks), size, crc(0, table), block_size, algorithm, verify)
    first = values if header_flags & 8 else (0, 0, 0, 0) + values[4:]
    return zfile_part(header_flags, *first) + body + table + zfile_part(0x16, *values)


def zfile_seeds():
    text = b'the quick brown fox ' * 300
    lz4 = [lz4_block(text[:4096]), lz4_block(text[4096:5000])]
    zstd = [zstd_frame(bytes(8192)), zstd_frame(text[:100])]
    seeds = {
        'lz4': zfile(lz4, 5000, 4096, 1),
        'lz4-open-header': zfile(lz4, 5000, 4096, 1, 1, 0x13),
        'lz4-bare': zfile(lz4, 5000, 4096, 1, 0),
        'zstd': zfile(zstd, 8292, 8192, 2),
        'zstd-wrong-size': zfile(zstd, 8293, 8192, 2),
        'many': zfile([zstd_frame(bytes(4096))] * 40, 40 * 4096, 4096, 2),
        'empty': zfile([], 0, 65536, 1),
        'reference-zstd': golden('zstd-8k/layer0.obd'),
        'reference-lz4': golden('lz4-64k/layer0.obd'),
    }
    for name, data in seeds.items():
        write('zfile', name, b'\x07' + data)
    write('zfile', 'unsealed', b'\x00' + seeds['lz4'])
    write('zfile', 'cut', b'\x07' + seeds['lz4'][:700])


# Traces

def trace(reads, disk=1 << 20, count=None):
    head = b'OBDTRACE' + struct.pack('<I', 1)
    rest = struct.pack('<QQ', len(reads) if count is None else count, disk) + bytes(range(32))
    rest += b''.join(struct.pack('<QII', *read) for read in reads)
    return head + struct.pack('<I', crc(0xffffffff, head + rest) ^ 0xffffffff) + rest


def trace_layers(records):
    data = b''.join(struct.pack('<cxxxIQq', *record) for record in records)
    return struct.pack('<IIQII', 0xC2EF1820, 0, len(data), crc(0, data), 0) + data


def trace_seeds():
    reads = [(0, 8, 0), (2047, 1, 700), (8, 64, 5000000)]
    for name, data in {
            'reads': trace(reads), 'none': trace([]), 'cut': trace(reads)[:-5],
            'outside': trace([(2048, 1, 0)]), 'huge-count': trace(reads, count=1 << 60)}.items():
        write('trace', name, data)
    records = [(b'R', 0, 4096, 4096), (b'W', 1, 512, 8192), (b'R', 2, 1 << 40, -1)]
    for name, data in {
            'records': trace_layers(records), 'none': trace_layers([]),
            'odd': trace_layers([(b'X', 0, 1, 1)]), 'cut': trace_layers(records)[:-1],
            'reference': golden('trace/recorded.trace')[:24 + 24 * 12]}.items():
        write('trace_layers', name, data)
    for name, text in {
            'reads': '# by hand\nimage ' + DIGEST + '\ndisk 1048576\n0 8 0.000\n8 64 5000.001\n',
            'short': '5 3\r\n7\t1 2.5', 'outside': 'disk 512\n1 1\n',
            'paths': '# files\n\n/usr/bin/python3\n/usr/lib/*\r\n/etc/', 'relative': 'etc/passwd\n',
            'nul': '/a\0b'}.items():
        write('trace_text', name, text.encode())


# What registries, users and credential stores write

DIGEST = 'sha256:' + '0123456789abcdef' * 4
MARK = 'containerd.io/snapshot/overlaybd/'


def layer(size, **more):
    notes = {MARK + 'blob-digest': DIGEST, MARK + 'blob-size': size}
    notes.update((MARK + key.replace('_', '-'), value) for key, value in more.items())
    return {'digest': DIGEST, 'size': 7, 'annotations': notes}


def entry(arch, **more):
    return {'digest': DIGEST, 'platform': {'os': 'linux', 'architecture': arch}, **more}


def texts(target, seeds, prefix=b''):
    for name, text in seeds.items():
        text = text if isinstance(text, str) else json.dumps(text)
        write(target, name, prefix + text.encode())


def registry_seeds():
    texts('reference', {
        'short': 'debian', 'tag': 'debian:12', 'hub': 'index.docker.io/user/app:x_y',
        'port': 'http://localhost:5000/a/b__c:tag', 'address': '[::1]:80/a.b',
        'digest': 'reg.io/a:t@' + DIGEST, 'password': 'https://me:pw@reg.io/a',
        'blobs': 'https://reg.io/v2/a/b/blobs/',
    })
    texts('manifest', {
        'image': {'schemaVersion': 2, 'mediaType': 'application/vnd.oci.image.manifest.v1+json',
                  'layers': [layer('9'), layer('10'), layer('3', acceleration_layer='yes')]},
        'plain': {'layers': [{'digest': DIGEST, 'size': 1}]},
        'turbo': {'layers': [layer('9', **{'turbo_oci/target_digest': DIGEST})]},
        'index': {'manifests': [entry('arm64'), entry('amd64'), entry(
            'amd64', artifactType='application/vnd.containerd.overlaybd.native.v1+json')]},
        'no-platform': {'manifests': [entry('s390x'), {'digest': DIGEST}]},
        'both': {'layers': [], 'manifests': []},
        'schema1': {'fsLayers': []},
    })
    texts('challenge', {
        'bearer': 'Bearer realm="https://a.io/t?x=y#z",service="r",scope="repository:a:pull"',
        'basic': 'Basic realm="a \\"b\\"", charset=UTF-8', 'token68': 'Negotiate YWJj==, Basic',
        'many': 'Digest a=b,c="d", , Bearer realm="http://a",error=invalid_token',
    }, b'\x00')
    texts('challenge', {
        'token': {'token': 'abc', 'expires_in': 300}, 'access': {'access_token': 'abc'},
        'blank': {'token': 'a b'},
    }, b'\x01')
    auth = {'auth': 'bWU6c2VjcmV0'}
    texts('auths', {
        'keys': {'auths': {'reg.io': auth, 'https://reg.io/a': {'identitytoken': 'x'},
                           'reg.io/a/b': {'username': 'u', 'password': 'p'}}},
        'hub': {'auths': {'https://index.docker.io/v1/': auth}},
        'store': {'auths': {'reg.io': {}}, 'credsStore': 'x'},
        'helper': {'credHelpers': {'reg.io:5000': 'y'}},
        'token': {'auths': {'reg.io:5000': {'registrytoken': 'r'}}},
        'bad': {'auths': {'reg.io': {'auth': 'bWU='}}},
    })


tar_seeds()
zfile_seeds()
trace_seeds()
registry_seeds()
