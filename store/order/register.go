package order

// register has a node for each of some numbers. Where few of many are asked for, it takes memory for those alone.
type register[N ~uint32] struct {
	dense  []int32     // by number: the node plus one, 0 where there is none
	sparse map[N]int32 // nil: they are in dense
}

// thin is how many places of a slice take about as much as one of a map.
const thin = 10

// newRegister returns a register of numbers below a bound, of which no more than so many are asked for.
func newRegister[N ~uint32](below, asked int) register[N] {
	if asked < below/thin {
		return register[N]{sparse: make(map[N]int32)}
	}
	return register[N]{dense: make([]int32, below)}
}

// registerWeight returns how many octets a register takes, about.
func registerWeight(below, asked int) int64 { return 4 * int64(min(below, thin*asked)) }

// of returns the node of a number, none if there is none yet.
func (r *register[N]) of(number N) int32 {
	if r.sparse == nil {
		return r.dense[number] - 1
	}
	if node, ok := r.sparse[number]; ok {
		return node
	}
	return none
}

func (r *register[N]) set(number N, node int32) {
	if r.sparse == nil {
		r.dense[number] = node + 1
		return
	}
	r.sparse[number] = node
}
