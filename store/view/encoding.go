package view

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"sync"

	"github.com/klauspost/compress/zstd"

	"mailstead.dev/store/id"
)

// Records and segments are stored as
//
//	version (1)  form (1)  body  CRC-32C of all before it (4, little endian)
//
// where the body is plain, or compressed behind its length. Numbers are
// varints, lists of messages columns of differences.

const (
	recordVersion  = 0x11
	segmentVersion = 0x21

	formPlain = 0
	formZstd  = 1

	// compressFrom is from how many octets on a body is compressed.
	compressFrom = 200

	// maxBody bounds what a compressed body grows to; longer ones are stored plain.
	maxBody = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var compressor = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false))
	if err != nil {
		panic(err) // an option that does not exist
	}
	return e
})

var decompressor = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxBody), zstd.WithDecoderConcurrency(0))
	if err != nil {
		panic(err) // an option that does not exist
	}
	return d
})

// seal returns the stored form of a body.
func seal(version byte, body []byte) []byte {
	data := append(make([]byte, 0, len(body)+6), version, formPlain)
	data = append(data, body...)
	if len(body) >= compressFrom && len(body) <= maxBody {
		packed := append(make([]byte, 0, len(body)/2+16), version, formZstd)
		packed = binary.AppendUvarint(packed, uint64(len(body)))
		packed = compressor().EncodeAll(body, packed)
		if len(packed) < len(data) {
			data = packed
		}
	}
	return binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, castagnoli))
}

// unseal returns the body of a stored form.
func unseal(version byte, data []byte) ([]byte, error) {
	if len(data) < 6 {
		return nil, fmt.Errorf("%w: only %d octets", ErrCorrupt, len(data))
	}
	sum := binary.LittleEndian.Uint32(data[len(data)-4:])
	data = data[:len(data)-4]
	if crc32.Checksum(data, castagnoli) != sum {
		return nil, fmt.Errorf("%w: wrong checksum", ErrCorrupt)
	}
	if data[0] != version {
		return nil, fmt.Errorf("%w: version %#x, want %#x", ErrCorrupt, data[0], version)
	}
	switch body := data[2:]; data[1] {
	case formPlain:
		return body, nil
	case formZstd:
		size, n := binary.Uvarint(body)
		if n <= 0 || size > maxBody {
			return nil, fmt.Errorf("%w: length of its body", ErrCorrupt)
		}
		raw, err := decompressor().DecodeAll(body[n:], make([]byte, 0, min(size, uint64(len(body))*64)))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if uint64(len(raw)) != size {
			return nil, fmt.Errorf("%w: body of %d octets, want %d", ErrCorrupt, len(raw), size)
		}
		return raw, nil
	default:
		return nil, fmt.Errorf("%w: form %#x", ErrCorrupt, data[1])
	}
}

func appendKeywords(b []byte, k Keywords) []byte {
	b = binary.AppendUvarint(b, k[0])
	return binary.AppendUvarint(b, k[1])
}

func appendUIDSet(b []byte, s UIDSet) []byte {
	b = binary.AppendUvarint(b, uint64(len(s.ranges)))
	var last id.UID
	for _, r := range s.ranges {
		b = binary.AppendUvarint(b, uint64(r.First-last))
		b = binary.AppendUvarint(b, uint64(r.Last-r.First))
		last = r.Last
	}
	return b
}

// The columns that a list of messages has only where they say something.
const (
	hasZones    = 1 << 0
	hasKeywords = 1 << 1
	hasModSeqs  = 1 << 2
	hasShared   = 1 << 3 // MODSEQs that others see, where the owner sees a higher one
)

// columns is how many columns every list has, each with at least one octet a message.
const columns = 6

// appendMessages writes messages as columns.
func appendMessages(b []byte, messages []Message, uidBase id.UID, emailBase id.Email, modSeqs bool) []byte {
	var has byte
	if modSeqs {
		has |= hasModSeqs
	}
	for i := range messages {
		if zoneOf(messages[i].InternalDate) != 0 {
			has |= hasZones
		}
		if messages[i].Keywords != (Keywords{}) {
			has |= hasKeywords
		}
		if modSeqs && messages[i].SharedModSeq != 0 {
			has |= hasShared
		}
	}
	b = binary.AppendUvarint(b, uint64(len(messages)))
	if len(messages) == 0 {
		return b
	}
	b = append(b, has)
	differences := func(last int64, value func(*Message) int64) {
		for i := range messages {
			v := value(&messages[i])
			b = binary.AppendVarint(b, v-last)
			last = v
		}
	}
	uid := uidBase
	for i := range messages {
		b = binary.AppendUvarint(b, uint64(messages[i].UID-uid))
		uid = messages[i].UID
	}
	differences(int64(emailBase), func(m *Message) int64 { return int64(m.Email) })
	for i := range messages {
		b = append(b, byte(messages[i].Flags))
	}
	differences(0, func(m *Message) int64 { return m.InternalDate.Unix() })
	differences(messages[0].InternalDate.Unix(), func(m *Message) int64 { return m.SaveDate.Unix() })
	for i := range messages {
		b = binary.AppendUvarint(b, uint64(messages[i].Size))
	}
	if has&hasZones != 0 {
		differences(0, func(m *Message) int64 { return int64(zoneOf(m.InternalDate)) })
	}
	if has&hasKeywords != 0 {
		for i := range messages {
			b = appendKeywords(b, messages[i].Keywords)
		}
	}
	if has&hasModSeqs != 0 {
		differences(0, func(m *Message) int64 { return int64(m.ModSeq) })
	}
	if has&hasShared != 0 {
		for i := range messages {
			b = binary.AppendUvarint(b, uint64(messages[i].ModSeq-messages[i].sharedModSeq()))
		}
	}
	return b
}

// decoder reads a body. Its first error sticks, and everything is zero after it.
type decoder struct {
	data []byte
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	d.data = nil
}

func (d *decoder) byte() byte {
	if len(d.data) == 0 {
		d.fail("it ends too early")
		return 0
	}
	b := d.data[0]
	d.data = d.data[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	if len(d.data) > 0 && d.data[0] < 0x80 {
		v := d.data[0]
		d.data = d.data[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.data)
	if n <= 0 {
		d.fail("a number that does not end")
		return 0
	}
	d.data = d.data[n:]
	return v
}

func (d *decoder) varint() int64 {
	v := d.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// count reads a number of things that take at least so many octets each.
func (d *decoder) count(octets int) int {
	n := d.uvarint()
	if n > uint64(len(d.data)/octets) {
		d.fail("%d entries in %d octets", n, len(d.data))
		return 0
	}
	return int(n)
}

func (d *decoder) string(longest int) string {
	n := d.count(1)
	if n > longest {
		d.fail("a name of %d octets", n)
		return ""
	}
	s := string(d.data[:n])
	d.data = d.data[n:]
	return s
}

func (d *decoder) keywords() Keywords { return Keywords{d.uvarint(), d.uvarint()} }

func (d *decoder) bool() bool {
	b := d.byte()
	if b > 1 {
		d.fail("yes or no as %d", b)
	}
	return b == 1
}

// uidSet reads a set that is written relative to base.
func (d *decoder) uidSet(base id.UID) UIDSet {
	n := d.count(2)
	b := rangeBuilder{make([]Range, 0, n)}
	last := uint64(base)
	for range n {
		first := d.uvarint() + last
		end := d.uvarint()
		if first <= last || first > math.MaxUint32 || end > math.MaxUint32-first {
			d.fail("a range of UIDs that does not ascend")
			return UIDSet{}
		}
		last = first + end
		b.add(Range{id.UID(first), id.UID(last)})
	}
	return b.set()
}

// messages reads a list of messages, as one chunk of any length.
func (d *decoder) messages(uidBase id.UID, emailBase id.Email, modSeqs bool) *chunk {
	n := d.count(columns)
	c := &chunk{fixed: &fixed{}}
	if n == 0 {
		return c
	}
	has := d.byte()
	if has&^(hasZones|hasKeywords|hasModSeqs|hasShared) != 0 || modSeqs != (has&hasModSeqs != 0) || has&hasShared != 0 && !modSeqs {
		d.fail("columns %#x", has)
		return c
	}
	c.fixed.uids = d.uids(n, uidBase)
	c.fixed.emails = differences[id.Email](d, n, int64(emailBase))
	c.flags = d.flags(n)
	c.fixed.internal = differences[int64](d, n, 0)
	c.fixed.saved = differences[int64](d, n, c.fixed.internal[0])
	c.fixed.sizes = d.sizes(n)
	if has&hasZones != 0 {
		c.fixed.zones = d.zones(n)
	}
	if has&hasKeywords != 0 {
		c.keywords = make([]Keywords, n)
		for i := range c.keywords {
			c.keywords[i] = d.keywords()
		}
	}
	if has&hasModSeqs != 0 {
		c.modSeqs = differences[id.ModSeq](d, n, 0)
		for _, m := range c.modSeqs {
			if m < 1 {
				d.fail("MODSEQ %d", m)
			}
			c.max = max(c.max, m)
		}
	}
	if has&hasShared != 0 {
		c.shared = d.shared(c.modSeqs)
	}
	return c
}

// shared reads the MODSEQs that others see, none of which is above that of the owner.
func (d *decoder) shared(modSeqs []id.ModSeq) []id.ModSeq {
	col := make([]id.ModSeq, len(modSeqs))
	for i, m := range modSeqs {
		below := d.uvarint()
		if d.err == nil && below >= uint64(m) {
			d.fail("MODSEQ %d, to others %d less", m, below)
		}
		if d.err != nil {
			return col
		}
		col[i] = m - id.ModSeq(below)
	}
	return col
}

func (d *decoder) uids(n int, base id.UID) []id.UID {
	col := make([]id.UID, n)
	last := uint64(base)
	for i := range col {
		step := d.uvarint()
		if step == 0 || step > math.MaxUint32-last {
			d.fail("UIDs that do not ascend")
			return col
		}
		last += step
		col[i] = id.UID(last)
	}
	return col
}

func differences[T ~int64](d *decoder, n int, last int64) []T {
	col := make([]T, n)
	for i := range col {
		last += d.varint()
		col[i] = T(last)
	}
	return col
}

func (d *decoder) flags(n int) []Flags {
	col := make([]Flags, n)
	if len(d.data) < n {
		d.fail("it ends too early")
		return col
	}
	for i, b := range d.data[:n] {
		col[i] = Flags(b)
		if col[i]&^AllFlags != 0 {
			d.fail("flags that there are not")
			return col
		}
	}
	d.data = d.data[n:]
	return col
}

func (d *decoder) sizes(n int) []int64 {
	col := make([]int64, n)
	for i := range col {
		size := d.uvarint()
		if size > math.MaxInt64 {
			d.fail("a size of %d", size)
			return col
		}
		col[i] = int64(size)
	}
	return col
}

func (d *decoder) zones(n int) []int16 {
	col := make([]int16, n)
	last := int64(0)
	for i := range col {
		last += d.varint()
		if last < -maxZone || last > maxZone {
			d.fail("a zone %d minutes off", last)
			return col
		}
		col[i] = int16(last)
	}
	return col
}
