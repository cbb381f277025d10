package inflate

const (
	maxBits  = 15 // of a symbol
	fastBits = 9  // of one that is found at once
)

// huffman is a code (RFC 1951 section 3.2.2).
type huffman struct {
	fast    [1 << fastBits]uint16   // by the next bits, symbol<<4 | length; 0: a longer one, or none
	count   [maxBits + 1]uint16     // symbols of each length
	symbols [maxLiterals + 2]uint16 // by length, and by their order
	longest int
}

// The codes of blocks that bring none (RFC 1951 section 3.2.6).
var fixedLit, fixedDist huffman

func init() {
	var l [maxLiterals + 2]uint8
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	fixedLit.build(l[:])
	for i := range l[:maxDistances+2] {
		l[i] = 5
	}
	fixedDist.build(l[:maxDistances+2])
}

// build makes the code of symbols of these lengths, 0: not used. It must leave no bits without a meaning, but for
// those with a single symbol, of one bit, or with none: zlib makes these for distances.
func (h *huffman) build(lengths []uint8) bool {
	*h = huffman{}
	for _, n := range lengths {
		h.count[n]++
		h.longest = max(h.longest, int(n))
	}
	h.count[0] = 0
	var first, place [maxBits + 1]uint16 // of each length: its first code, and the place of its first symbol
	left := 1                            // codes that are not given out
	for n := 1; n <= h.longest; n++ {
		left = left<<1 - int(h.count[n])
		if left < 0 {
			return false
		}
		first[n] = (first[n-1] + h.count[n-1]) << 1
		place[n] = place[n-1] + h.count[n-1]
	}
	if left > 0 && h.longest > 1 {
		return false
	}
	for symbol, n := range lengths {
		if n == 0 {
			continue
		}
		h.symbols[place[n]] = uint16(symbol)
		place[n]++
		if n <= fastBits {
			for i := int(reversed(first[n], n)); i < len(h.fast); i += 1 << n {
				h.fast[i] = uint16(symbol)<<4 | uint16(n)
			}
		}
		first[n]++
	}
	return true
}

// reversed returns a code of n bits as they come, the first one lowest.
func reversed(code uint16, n uint8) (r uint16) {
	for range n {
		r = r<<1 | code&1
		code >>= 1
	}
	return r
}

// symbol returns the symbol that the next bits begin with, and of how many it is; 0: of more than the n that
// there are, -1: there is none.
//
// Bits that have not come are 0 there. A longer code is a greater number, so that with them no code seems longer than it is.
func (h *huffman) symbol(bits uint64, n uint) (symbol, length int) {
	if fast := h.fast[bits%(1<<fastBits)]; fast > 0 {
		if length := fast & 15; uint(length) <= n {
			return int(fast >> 4), int(length)
		}
		return 0, 0
	}
	code, first, place := 0, 0, 0
	for length := 1; length <= h.longest; length++ {
		if uint(length) > n {
			return 0, 0
		}
		code = code<<1 | int(bits&1)
		bits >>= 1
		first <<= 1
		count := int(h.count[length])
		if code-first < count {
			return int(h.symbols[place+code-first]), length
		}
		first, place = first+count, place+count
	}
	return 0, -1
}
