// Package inflate decodes DEFLATE (RFC 1951) as it comes in, from one who waits for an answer.
//
// All text that the octets so far tell is given out, wherever they end: zlib's Z_PARTIAL_FLUSH ends within a block and
// within an octet. A decoder that wants to see some bits more than it needs, as those of compress/flate and of
// klauspost/compress do, would then wait for what never comes.
//
// A Stream at rest keeps the text that may be referred to and where it stands, at any bit; the memory to work with is lent.
package inflate

import (
	"errors"
	"sync"
)

// Window is how far back text can be referred to (RFC 1951 section 2).
const Window = 32 << 10

// ErrCorrupt says that the input is no DEFLATE.
var ErrCorrupt = errors.New("not a stream of DEFLATE")

// Stream is a stream that is decoded. Its zero value is at the beginning of one.
type Stream struct {
	phase phase
	final bool   // this is the last block
	fixed bool   // the block has the codes of RFC 1951 section 3.2.6
	empty bool   // nothing has come of the block so far
	bits  uint64 // taken but not used, the next one lowest
	n     uint   // of bits: at most 7 more than the next step needs
	left  int    // octets of a stored block that are still to come
	err   error

	*memory          // nil at rest,
	window  []byte   // when this is the end of the text
	codes   *dynamic // and these are the codes of the block, if it brings its own
}

// phase is what comes next in a stream.
type phase uint8

const (
	header       phase = iota // of a block
	storedLength              // of a stored block, twice
	stored                    // its octets
	counts                    // of the codes that a block brings
	codeLengths               // of the code for their lengths
	lengths                   // of their symbols
	symbols                   // the text
	ended                     // nothing
)

// memory is what decoding needs.
type memory struct {
	in  []byte
	pos int // in in

	text      [2 * Window]byte // what was decoded: what may be referred to, and then
	next, end int              // that which has not been taken

	dynamic   dynamic
	lit, dist huffman // what it describes, as far as that has come
}

var memories = sync.Pool{New: func() any { return new(memory) }}

// full is where Inflate stops, unless all octets are taken: then the bits that are left, less than 56, are decoded as well, for
// it may be that nothing comes after them. The shortest codes make 258 octets of 2 bits.
const full = 2*Window - 8<<10

// Limits of RFC 1951 sections 3.2.5 and 3.2.7.
const (
	maxLiterals  = 286
	maxDistances = 30
	endOfBlock   = 256
)

// dynamic describes the codes that a block brings (RFC 1951 section 3.2.7).
type dynamic struct {
	literals, distances, codes int
	i                          int // how many lengths have come, in this phase
	codeLengths                [len(codeOrder)]uint8
	lengths                    [maxLiterals + maxDistances]uint8
}

var codeOrder = [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// What the codes for lengths and distances stand for (RFC 1951 section 3.2.5).
var (
	lengthBase    = [...]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra   = [...]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distanceBase  = [...]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distanceExtra = [...]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// Inflate decodes in, and returns how much of it was taken. It stops at the end of an empty
// block, which is what a flush is made of, at the end of the stream, and where there is text
// of about a window; else it takes everything. Text must have been taken before.
//
// An error, which stays, says nothing about the text that was decoded before it.
func (s *Stream) Inflate(in []byte) (taken int, err error) {
	if s.err != nil {
		return 0, s.err
	}
	s.wake()
	if s.next == s.end && s.end > Window+Window/2 {
		s.end = copy(s.text[:], s.text[s.end-Window:s.end])
		s.next = s.end
	}
	s.in, s.pos = in, 0
	s.err = s.decode()
	s.in = nil
	return s.pos, s.err
}

// Text returns what was decoded and not taken. It is good until the next call.
func (s *Stream) Text() []byte {
	if s.memory == nil {
		return nil
	}
	return s.text[s.next:s.end]
}

// Take moves text to p.
func (s *Stream) Take(p []byte) int {
	n := copy(p, s.Text())
	if n > 0 {
		s.next += n
	}
	return n
}

// Ended tells whether the last block has ended.
func (s *Stream) Ended() bool { return s.phase == ended }

// Aligned tells whether the last block that was begun has ended, and its last octet with it.
func (s *Stream) Aligned() bool { return s.phase == header && s.n == 0 }

// Flushed tells whether it may be that nothing more comes for now: it is aligned, or in the
// empty block of fixed codes that is Z_PARTIAL_FLUSH.
func (s *Stream) Flushed() bool {
	return s.Aligned() || s.phase == symbols && s.fixed && s.empty
}

// Rest gives the memory back, unless there is text.
func (s *Stream) Rest() {
	if s.memory == nil || s.next < s.end {
		return
	}
	keep := s.text[max(0, s.end-Window):s.end]
	if cap(s.window) < len(keep) {
		s.window = make([]byte, 0, min(2*len(keep), Window))
	}
	s.window = append(s.window[:0], keep...)
	if codeLengths <= s.phase && s.phase <= symbols && !s.fixed {
		codes := s.dynamic
		s.codes = &codes
	}
	memories.Put(s.memory)
	s.memory = nil
}

// wake gets memory. Of the text of others that is left in it nothing can be referred to: it
// is behind the end, or is written over.
func (s *Stream) wake() {
	if s.memory != nil {
		return
	}
	s.memory = memories.Get().(*memory)
	s.end = copy(s.text[:], s.window)
	s.next = s.end
	if s.codes == nil {
		return
	}
	s.dynamic, s.codes = *s.codes, nil
	switch s.phase { // the codes were good before
	case lengths:
		s.lit.build(s.dynamic.codeLengths[:])
	case symbols:
		s.dynamic.build(&s.lit, &s.dist)
	}
}

func (s *Stream) decode() error {
	for {
		switch s.phase {
		case header:
			if !s.need(3) {
				return nil
			}
			s.final, s.empty = s.take(1) == 1, true
			switch s.take(2) {
			case 0:
				s.take(s.n % 8)
				s.phase = storedLength
			case 1:
				s.phase, s.fixed = symbols, true
			case 2:
				s.phase, s.fixed = counts, false
			default:
				return ErrCorrupt
			}

		case storedLength:
			if !s.need(32) {
				return nil
			}
			length, complement := s.take(16), s.take(16)
			if length != complement^0xffff {
				return ErrCorrupt
			}
			s.phase, s.left = stored, length

		case stored:
			n := copy(s.text[min(s.end, full):full], s.in[s.pos:min(s.pos+s.left, len(s.in))])
			s.pos, s.end, s.left = s.pos+n, s.end+n, s.left-n
			s.empty = s.empty && n == 0
			if s.left > 0 || s.endBlock() {
				return nil
			}

		case symbols:
			if done, err := s.symbols(); !done || s.endBlock() {
				return err
			}

		case ended:
			return nil

		default:
			if more, err := s.describe(); !more {
				return err
			}
		}
	}
}

// endBlock ends a block, and tells whether that is where Inflate stops.
func (s *Stream) endBlock() bool {
	s.phase = header
	if s.final {
		s.phase = ended
	}
	return s.final || s.empty
}

// describe reads what a block says about its codes; false: as far as it has come.
func (s *Stream) describe() (done bool, err error) {
	d := &s.dynamic
	switch s.phase {
	case counts:
		if !s.need(14) {
			return false, nil
		}
		d.literals, d.distances, d.codes = s.take(5)+257, s.take(5)+1, s.take(4)+4
		if d.literals > maxLiterals || d.distances > maxDistances {
			return false, ErrCorrupt
		}
		clear(d.codeLengths[:])
		s.phase, d.i = codeLengths, 0

	case codeLengths:
		for ; d.i < d.codes; d.i++ {
			if !s.need(3) {
				return false, nil
			}
			d.codeLengths[codeOrder[d.i]] = uint8(s.take(3))
		}
		if !s.lit.build(d.codeLengths[:]) {
			return false, ErrCorrupt
		}
		s.phase, d.i = lengths, 0

	case lengths:
		for all := d.literals + d.distances; d.i < all; {
			symbol, n, err := s.symbol(&s.lit, 0)
			if n == 0 {
				return false, err
			}
			length, times, extra := uint8(symbol), 1, uint(0)
			switch symbol {
			case 16:
				if d.i == 0 {
					return false, ErrCorrupt
				}
				length, times, extra = d.lengths[d.i-1], 3, 2
			case 17:
				length, times, extra = 0, 3, 3
			case 18:
				length, times, extra = 0, 11, 7
			}
			if !s.need(n + extra) {
				return false, nil
			}
			s.take(n)
			times += s.take(extra)
			if d.i+times > all {
				return false, ErrCorrupt
			}
			for range times {
				d.lengths[d.i] = length
				d.i++
			}
		}
		if !d.build(&s.lit, &s.dist) {
			return false, ErrCorrupt
		}
		s.phase = symbols
	}
	return true, nil
}

// build makes the codes of a block.
func (d *dynamic) build(lit, dist *huffman) bool {
	return lit.build(d.lengths[:d.literals]) && dist.build(d.lengths[d.literals:d.literals+d.distances])
}

// symbols decodes up to the end of the block; false: as far as it has come, or as there is room.
//
// Bits are used up by whole steps only, an octet or a match.
func (s *Stream) symbols() (done bool, err error) {
	lit, dist := &fixedLit, &fixedDist
	if !s.fixed {
		lit, dist = &s.lit, &s.dist
	}
	for s.end < full || s.pos == len(s.in) {
		symbol, n, err := s.symbol(lit, 0)
		switch {
		case n == 0:
			return false, err
		case symbol < endOfBlock:
			s.take(n)
			s.text[s.end] = byte(symbol)
			s.end++
			s.empty = false
			continue
		case symbol == endOfBlock:
			s.take(n)
			return true, nil
		case symbol >= maxLiterals:
			return false, ErrCorrupt
		}
		length, n, ok := s.value(lengthBase[:], lengthExtra[:], symbol-endOfBlock-1, n)
		if !ok {
			return false, nil
		}
		symbol, n, err = s.symbol(dist, n)
		if n == 0 {
			return false, err
		}
		if symbol >= maxDistances {
			return false, ErrCorrupt
		}
		distance, n, ok := s.value(distanceBase[:], distanceExtra[:], symbol, n)
		if !ok {
			return false, nil
		}
		if distance > s.end {
			return false, ErrCorrupt
		}
		s.take(n)
		from, to := s.end-distance, s.end+length
		for s.end < to { // a match may go on into itself
			s.end += copy(s.text[s.end:to], s.text[from:s.end])
		}
		s.empty = false
	}
	return false, nil
}

// symbol returns the symbol of h that begins at a bit, and the bit behind it; 0: it has not come whole, or is none.
func (s *Stream) symbol(h *huffman, at uint) (symbol int, end uint, err error) {
	for {
		symbol, n := h.symbol(s.bits>>at, s.n-at)
		if n > 0 {
			return symbol, at + uint(n), nil
		}
		if n < 0 {
			return 0, 0, ErrCorrupt
		}
		if !s.need(s.n + 1) {
			return 0, 0, nil
		}
	}
}

// value returns what a symbol stands for with the extra bits that begin at a bit, and the bit behind them, if they have come.
func (s *Stream) value(base []uint16, extra []uint8, symbol int, at uint) (value int, end uint, ok bool) {
	n := uint(extra[symbol])
	if !s.need(at + n) {
		return 0, 0, false
	}
	return int(base[symbol]) + int(s.bits>>at&(1<<n-1)), at + n, true
}

// need tells whether there are n bits, and takes as many octets as that needs.
func (s *Stream) need(n uint) bool {
	for s.n < n {
		if s.pos == len(s.in) {
			return false
		}
		s.bits |= uint64(s.in[s.pos]) << s.n
		s.pos++
		s.n += 8
	}
	return true
}

// take uses up n bits that are there.
func (s *Stream) take(n uint) int {
	v := s.bits & (1<<n - 1)
	s.bits >>= n
	s.n -= n
	return int(v)
}
