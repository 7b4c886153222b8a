"""How kernels reach memory: lanes from and to arrays, single elements without Numba's questions, the work counter."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from .simd import _INT, _VEC, LANES, V8

CHUNK = 2048
"""Gaussians in an item of work. With 256, two threads projected no faster than one: each core fetches ahead what lies behind
its own chunk, and so takes it away from the other."""


def _address(context, builder, kind, array, index):
    return builder.gep(make_array(kind)(context, builder, array).data, [index])


@intrinsic
def load(typingctx, array, index):
    """Eight consecutive elements of a flat float32 array, from `index` on."""

    def codegen(context, builder, sig, args):
        address = _address(context, builder, sig.args[0], *args)
        return builder.load(builder.bitcast(address, _VEC.as_pointer()), align=4)

    return V8(array, types.intp), codegen


@intrinsic
def at(typingctx, array, index):
    """array[index] where that is not negative. Numba's own indexing asks, at each access in the innermost loops."""

    def codegen(context, builder, sig, args):
        return builder.load(_address(context, builder, sig.args[0], *args))

    if isinstance(array, types.Array):
        return array.dtype(array, types.intp), codegen


@intrinsic
def store(typingctx, array, index, value):
    """Write eight consecutive elements."""

    def codegen(context, builder, sig, args):
        address = _address(context, builder, sig.args[0], *args[:2])
        builder.store(args[2], builder.bitcast(address, _VEC.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, V8), codegen


def _lane_offsets(builder, index, stride, last):
    """index + stride * min(lane, last): lanes past the end of the data repeat the last element."""
    for lane in range(LANES):
        number = ir.Constant(index.type, lane)
        inside = builder.icmp_signed("<", number, last)
        yield _INT(lane), builder.add(index, builder.mul(stride, builder.select(inside, number, last)))


@intrinsic
def gather(typingctx, array, index, stride, last):
    """Lane k = array[index + stride * min(k, last)] of a flat float32 or int32 array, as float32."""

    def codegen(context, builder, sig, args):
        vector = ir.Constant(_VEC, ir.Undefined)
        for lane, offset in _lane_offsets(builder, *args[1:]):
            value = builder.load(_address(context, builder, sig.args[0], args[0], offset))
            value = context.cast(builder, value, sig.args[0].dtype, types.float32)
            vector = builder.insert_element(vector, value, lane)
        return vector

    return V8(array, types.intp, types.intp, types.intp), codegen


@intrinsic
def scatter(typingctx, array, index, stride, last, value):
    """array[index + stride * min(k, last)] = lane min(k, last), for a flat float32 or int32 array."""

    def codegen(context, builder, sig, args):
        for lane, offset in _lane_offsets(builder, *args[1:4]):
            # Lanes past the end must repeat the last *valid* lane, or they would overwrite it.
            inside = builder.icmp_signed("<", ir.Constant(args[3].type, lane.constant), args[3])
            source = builder.select(inside, lane, builder.trunc(args[3], _INT))
            number = builder.extract_element(args[4], source)
            number = context.cast(builder, number, types.float32, sig.args[0].dtype)
            builder.store(number, _address(context, builder, sig.args[0], args[0], offset))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp, V8), codegen


@intrinsic
def next_item(typingctx, counter):
    """counter[0]++ atomically, the old value returned: how threads share out the items of one launch."""

    def codegen(context, builder, sig, args):
        pointer = make_array(sig.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", pointer, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), codegen
