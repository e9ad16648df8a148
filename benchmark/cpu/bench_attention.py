# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Attention on a CPU beside a linear read of the same bytes.

bench_attention.py d p     d: decode, p: prefill
  BCPU=x86-64-v4           the --cpu of kv-compile
  BDIR=folder              where libraries are
  BUILD=1                  compile them only (KV_COMPILE names the compiler)
docs/kernels/attention-cpu.md has the record.
"""
import sys,time,os,ctypes
sys.path.insert(0,os.path.join(os.path.dirname(os.path.abspath(__file__)),'..','..','test','numerics'))
import numpy as np
from kvtest import Tensor, Library
import kvtest, pathlib
DIR=pathlib.Path(os.environ.get('BDIR','cpu-libraries')); DIR.mkdir(exist_ok=True)
BUILD=os.environ.get('BUILD')
def compile_library(text,name='program',*a):
    path=DIR/f'lib{name}.so'
    if BUILD:
        import subprocess
        r=subprocess.run([os.environ['KV_COMPILE'],'-',*(x for x in a if x.startswith('--cpu')),'-o',str(path)],input=text,text=True,capture_output=True); assert r.returncode==0,r.stderr
        return None
    return Library(path,name)

CPU=os.environ.get('BCPU','x86-64-v3')
rng=np.random.default_rng(0)
def al(a):
    n=a.nbytes; raw=np.empty(n+4096,np.uint8); o=-raw.ctypes.data%4096; x=raw[o:o+n].view(a.dtype).reshape(a.shape); x[...]=a; return x
def T(a,t): a=al(a); return Tensor(a.reshape(-1),t,a.shape)
def rnd(shape,et):
    x=rng.standard_normal(int(np.prod(shape)),dtype=np.float32)
    if et=='bf16': x=(x.view(np.uint32)>>16).astype(np.uint16)
    return al(x.reshape(shape))
lin=compile_library('''
func.func @read(%x: memref<?xf32> {kvcache.name="x"}, %out: memref<64xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = memref.dim %x, %c0 : memref<?xf32>
  %c64 = arith.constant 64 : index
  %chunk = arith.divui %n, %c64 : index
  %s = arith.constant 64 : index
  scf.parallel (%i) = (%c0) to (%c64) step (%c1) {
    %from = arith.muli %i, %chunk : index
    %to = arith.addi %from, %chunk : index
    %z = arith.constant dense<0.0> : vector<16xf32>
    %c16 = arith.constant 16 : index
    %c32 = arith.constant 32 : index
    %c48 = arith.constant 48 : index
    %r:4 = scf.for %j = %from to %to step %s iter_args(%a=%z,%b=%z,%c=%z,%d=%z) -> (vector<16xf32>,vector<16xf32>,vector<16xf32>,vector<16xf32>) {
      %j1 = arith.addi %j, %c16 : index
      %j2 = arith.addi %j, %c32 : index
      %j3 = arith.addi %j, %c48 : index
      %v0 = vector.load %x[%j] : memref<?xf32>, vector<16xf32>
      %v1 = vector.load %x[%j1] : memref<?xf32>, vector<16xf32>
      %v2 = vector.load %x[%j2] : memref<?xf32>, vector<16xf32>
      %v3 = vector.load %x[%j3] : memref<?xf32>, vector<16xf32>
      %a1 = arith.addf %a, %v0 : vector<16xf32>
      %b1 = arith.addf %b, %v1 : vector<16xf32>
      %d1 = arith.addf %c, %v2 : vector<16xf32>
      %e1 = arith.addf %d, %v3 : vector<16xf32>
      scf.yield %a1,%b1,%d1,%e1 : vector<16xf32>,vector<16xf32>,vector<16xf32>,vector<16xf32>
    }
    %p = arith.addf %r#0, %r#1 : vector<16xf32>
    %q = arith.addf %r#2, %r#3 : vector<16xf32>
    %t = arith.addf %p, %q : vector<16xf32>
    %u = vector.reduction <add>, %t : vector<16xf32> into f32
    memref.store %u, %out[%i] : memref<64xf32>
  }
  return
}''','lin')
def best(f,n=7):
    f(); ts=[]
    for _ in range(n):
        t=time.perf_counter(); f(); ts.append(time.perf_counter()-t)
    return min(ts)
def case(name,lens,qlens,hq,hk,D,et,order,N=16,flush=None,cross=None):
    st='' if cross is None else ''
    R=len(lens); nb=[-(-l//N) for l in lens]; B=sum(nb)+3
    axes={'S':2,'B':B,'N':N,'H':hk,'D':D}
    names={'nhd':'SBNHD','hnd':'SBHND','paired_nhd':'BSNHD','paired_hnd':'BSHND'}[order]
    text=f'''
!kv = !kvcache.cache<2S x ?B x {N}N x {hk}H x {D}D x {et}, order = [{', '.join(names)}]>
!batch = !kvcache.batch<?R x ?M x i32, tokens = {N}>
func.func @f(%q: memref<?x{hq}x{D}x{et}>, %c: !kv, %b: !batch, %out: memref<?x{hq}x{D}x{et}>) {{
  kvcache.attention %q over %c in %b into %out causal : memref<?x{hq}x{D}x{et}> over !kv in !batch into memref<?x{hq}x{D}x{et}>
  return
}}'''
    lib=compile_library(text,('b_'+et+'_'+order+f'_{hq}_{hk}_{D}_{N}_'+CPU).replace('-','_'),f'--cpu={CPU}')
    if BUILD: return
    phys=rnd([axes[a] for a in names],et)
    strides={}; s=1
    for a in reversed(names): strides[a]=s; s*=axes[a]
    cache=Tensor(phys.reshape(-1),et,[axes[a] for a in 'SBNHD'],[strides[a] for a in 'SBNHD'])
    perm=rng.permutation(B).astype(np.int32); table=np.zeros((R,max(nb)),np.int32); at=0
    for i,n in enumerate(nb): table[i,:n]=perm[at:at+n]; at+=n
    starts=np.concatenate([[0],np.cumsum(qlens)]).astype(np.int32)
    q=T(rnd((sum(qlens),hq,D),et),et); out=T(np.zeros((sum(qlens),hq,D),np.uint16 if et=='bf16' else np.float32),et)
    args=[q,cache,T(starts,'i32'),T(np.array(lens,np.int32),'i32'),T(table,'i32'),out]
    ws=lib.workspace_size('f',*args); w=np.zeros(ws+256,np.uint8); o=-w.ctypes.data%256; w=w[o:o+ws]
    assert lib.call('f',*args,workspace=w)==0, lib.last_error()
    t=best(lambda: lib.call('f',*args,workspace=w))
    by=2*sum(lens)*hk*D*(2 if et=='bf16' else 4)
    x=T(phys.reshape(-1).view(np.float32)[:by//4//64//64*64*64],'f32'); o2=T(np.zeros(64,np.float32),'f32')
    tr=best(lambda: lin.call('read',x,o2))
    fl=sum(4*hq*D*(a*c-a*(a-1)/2) for a,c in zip(qlens,lens))
    print(f'{name:22s} {et:5s} {order:10s} N={N:3d} {t*1e3:8.2f} ms {by/t/1e9:6.2f} GB/s = {100*tr/t:5.1f}% of read ({by/tr/1e9:.1f}) {fl/t/1e9:6.1f} GFLOP/s',flush=True)
if __name__=='__main__':
    which=sys.argv[1:] or ['d']
    for et in ('bf16','f32'):
        if 'd' in which:
            case('decode 16x2k 32/8',[2048]*16,[1]*16,32,8,128,et,'nhd')
            case('decode 16x2k 32/8',[2048]*16,[1]*16,32,8,128,et,'hnd')
            case('decode 16x2k 32/8',[2048]*16,[1]*16,32,8,128,et,'hnd',32)
            case('decode 1x32k 32/8',[32768],[1],32,8,128,et,'nhd')
            case('decode 64x512 32/8',[512]*64,[1]*64,32,8,128,et,'nhd')
            case('decode 16x2k 32/32',[2048]*16,[1]*16,32,32,128,et,'nhd')
        if 'p' in which:
            case('prefill 1x2k 32/8',[2048],[2048],32,8,128,et,'nhd')
            case('prefill 1x2k 32/8',[2048],[2048],32,8,128,et,'hnd')
