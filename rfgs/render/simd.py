"""Eight float32 lanes as one value inside Numba kernels.

Numba vectorises simple loops but not a compositor, so kernels here say what they mean: `V8` is LLVM's `<8 x float>`,
`M8` its mask `<8 x i1>`. LLVM lowers both to whatever the machine has (AVX2, AVX-512, NEON, SSE2), so there is one
source for all of them. `+ - * /`, comparisons, `& | ~` work as one would expect; a scalar on either side is broadcast.

Nothing here uses fast-math: the same operations give the same bits in the forward and in the backward pass, which must
take identical decisions about every pixel.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.core.datamodel import models
from numba.extending import intrinsic, lower_builtin, register_model, type_callable

LANES = 8
_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
_VEC = ir.VectorType(_FLOAT, LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)


class _V8Type(types.Type):
    def __init__(self):
        super().__init__(name="V8")


class _M8Type(types.Type):
    def __init__(self):
        super().__init__(name="M8")


V8 = _V8Type()
M8 = _M8Type()


@register_model(_V8Type)
class _V8Model(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, _VEC)


@register_model(_M8Type)
class _M8Model(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, _MASK)


def _broadcast(builder, value):
    one = builder.insert_element(ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined), value, _INT(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))


def _lift(context, builder, kind, value):
    """A scalar becomes a vector; a vector stays."""
    if kind is V8:
        return value
    return _broadcast(builder, context.cast(builder, value, kind, types.float32))


def _is_operand(kind):
    return kind is V8 or isinstance(kind, types.Number)


def _binary(symbol, result, emit):
    """Teach Numba `symbol(V8, V8)`, with a scalar allowed on one side."""

    @type_callable(symbol)
    def _typed(context):
        def typer(a, b):
            if (a is V8 or b is V8) and _is_operand(a) and _is_operand(b):
                return result

        return typer

    def lower(context, builder, sig, args):
        return emit(builder, *(_lift(context, builder, k, v) for k, v in zip(sig.args, args, strict=True)))

    for pair in ((V8, V8), (V8, types.Number), (types.Number, V8)):
        lower_builtin(symbol, *pair)(lower)


_binary(operator.add, V8, lambda b, x, y: b.fadd(x, y))
_binary(operator.sub, V8, lambda b, x, y: b.fsub(x, y))
_binary(operator.mul, V8, lambda b, x, y: b.fmul(x, y))
_binary(operator.truediv, V8, lambda b, x, y: b.fdiv(x, y))
_binary(operator.lt, M8, lambda b, x, y: b.fcmp_ordered("<", x, y))
_binary(operator.le, M8, lambda b, x, y: b.fcmp_ordered("<=", x, y))
_binary(operator.gt, M8, lambda b, x, y: b.fcmp_ordered(">", x, y))
_binary(operator.ge, M8, lambda b, x, y: b.fcmp_ordered(">=", x, y))


@type_callable(operator.neg)
def _type_neg(context):
    return lambda a: V8 if a is V8 else None


@lower_builtin(operator.neg, V8)
def _lower_neg(context, builder, sig, args):
    return builder.fneg(args[0])


@type_callable(operator.and_)
def _type_and(context):
    return lambda a, b: M8 if a is M8 and b is M8 else None


@lower_builtin(operator.and_, M8, M8)
def _lower_and(context, builder, sig, args):
    return builder.and_(*args)


def _elementwise(name, arity):
    """An intrinsic for LLVM's `name` (say `llvm.sqrt`) on `arity` operands, scalars broadcast."""

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(_VEC, [_VEC] * arity)
        function = get_or_insert_function(builder.module, kind, f"{name}.v{LANES}f32")
        return builder.call(
            function, [_lift(context, builder, k, v) for k, v in zip(sig.args, args, strict=True)]
        )

    def typed(*kinds):
        if all(map(_is_operand, kinds)):
            return V8(*kinds), codegen

    if arity == 1:
        return intrinsic(lambda typingctx, a: typed(a))
    return intrinsic(lambda typingctx, a, b, c: typed(a, b, c))


fma = _elementwise("llvm.fmuladd", 3)  # a * b + c, in one instruction where the machine has one
sqrt = _elementwise("llvm.sqrt", 1)
absolute = _elementwise("llvm.fabs", 1)
floor = _elementwise("llvm.floor", 1)
ceil = _elementwise("llvm.ceil", 1)
log = _elementwise("llvm.log", 1)


def _extremum(compare):
    """x if x compares true to y else y: one instruction on every machine, unlike LLVM's NaN-careful minnum."""

    def codegen(context, builder, sig, args):
        x, y = (_lift(context, builder, k, v) for k, v in zip(sig.args, args, strict=True))
        return builder.select(builder.fcmp_ordered(compare, x, y), x, y)

    @intrinsic
    def extremum(typingctx, a, b):
        if _is_operand(a) and _is_operand(b):
            return V8(a, b), codegen

    return extremum


minimum = _extremum("<")
maximum = _extremum(">")


@intrinsic
def splat(typingctx, a):
    """All lanes = a."""
    if isinstance(a, types.Number):
        return V8(a), lambda context, builder, sig, args: _lift(context, builder, sig.args[0], args[0])


@intrinsic
def select(typingctx, mask, a, b):
    """a where mask, else b."""

    def codegen(context, builder, sig, args):
        return builder.select(
            args[0], *(_lift(context, builder, k, v) for k, v in zip(sig.args[1:], args[1:], strict=True))
        )

    if mask is M8 and _is_operand(a) and _is_operand(b):
        return V8(mask, a, b), codegen


@intrinsic
def bits(typingctx, mask):
    """The mask as an integer, lane k in bit k."""

    def codegen(context, builder, sig, args):
        return builder.zext(builder.bitcast(args[0], ir.IntType(LANES)), ir.IntType(64))

    if mask is M8:
        return types.int64(mask), codegen


@intrinsic
def lane(typingctx, value, index):
    """One lane as float32."""

    def codegen(context, builder, sig, args):
        return builder.extract_element(args[0], builder.trunc(args[1], _INT))

    return types.float32(V8, types.intp), codegen


@intrinsic
def offsets_4x2(typingctx, axis):
    """The pixel offsets of the lanes of a block 4 wide and 2 high: axis 0 = 0 1 2 3 0 1 2 3, axis 1 = 0 0 0 0 1 1 1 1."""
    along_x = ir.Constant(_VEC, [0.0, 1.0, 2.0, 3.0] * 2)
    along_y = ir.Constant(_VEC, [0.0] * 4 + [1.0] * 4)
    if not isinstance(axis, types.IntegerLiteral):
        return None
    chosen = along_y if axis.literal_value else along_x
    return V8(axis), lambda context, builder, sig, args: chosen


@intrinsic
def ramp(typingctx):
    """0 1 2 3 4 5 6 7."""
    return V8(), lambda context, builder, sig, args: ir.Constant(_VEC, [float(k) for k in range(LANES)])


def _shuffle(builder, a, b, order):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT, LANES), order))


def _add_halves(builder, a, b, low, high):
    return builder.fadd(_shuffle(builder, a, b, low), _shuffle(builder, a, b, high))


@intrinsic
def lane_sums(typingctx, a, b, c, d, e, f, g, h):
    """Eight horizontal sums at once: the lanes of the result are the sums over the lanes of a, b, ..., h.

    A transposing tree of 14 shuffles and 7 additions, where eight separate sums would take 24 and 24.
    """

    def codegen(context, builder, sig, args):
        low, high = [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]
        pairs = [_add_halves(builder, args[k], args[k + 1], low, high) for k in range(0, LANES, 2)]
        low, high = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
        fours = [_add_halves(builder, pairs[k], pairs[k + 1], low, high) for k in (0, 2)]
        return _add_halves(
            builder, fours[0], fours[1], [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
        )

    return V8(V8, V8, V8, V8, V8, V8, V8, V8), codegen


@intrinsic
def lane_sum(typingctx, a):
    """The sum over the lanes, as float32."""

    def codegen(context, builder, sig, args):
        total = args[0]
        for order in ([4, 5, 6, 7, 0, 1, 2, 3], [2, 3, 0, 1, 6, 7, 4, 5], [1, 0, 3, 2, 5, 4, 7, 6]):
            total = builder.fadd(total, _shuffle(builder, total, total, order))
        return builder.extract_element(total, _INT(0))

    return types.float32(V8), codegen


@intrinsic
def trailing_zeros(typingctx, a):
    """The index of the lowest set bit of a non-zero int64; unsigned, so that indexing with it asks for no sign."""

    def codegen(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.int64), codegen
