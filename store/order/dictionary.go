package order

import (
	"bytes"
	"hash/maphash"
	"slices"
)

// textID stands for a string of a dictionary; 0 is the empty one.
type textID uint32

// dictionary holds each of many strings once, without a pointer to any.
type dictionary struct {
	seed  maphash.Seed
	bytes []byte
	ends  []uint64 // of each string in bytes
	slots []textID // a hash table: a string's number plus one, 0 where nothing is

	// ranks is the place of each string among all in their order (RFC 5051: that of the octets of what is normalised), and
	// sorted the strings in it. Of those that were added since they are not there yet.
	ranks  []uint32
	sorted []textID
}

func (d *dictionary) len() int { return len(d.ends) }

func (d *dictionary) text(t textID) []byte {
	from := uint64(0)
	if t > 0 {
		from = d.ends[t-1]
	}
	return d.bytes[from:d.ends[t]]
}

// add returns what stands for a string.
func (d *dictionary) add(s []byte) textID {
	if 2*(d.len()+1) > len(d.slots) {
		d.grow()
	}
	at := d.slot(s)
	if d.slots[at] > 0 {
		return d.slots[at] - 1
	}
	d.bytes = append(d.bytes, s...)
	d.ends = append(d.ends, uint64(len(d.bytes)))
	d.slots[at] = textID(d.len())
	return d.slots[at] - 1
}

// slot returns where the string is in slots, or would be.
func (d *dictionary) slot(s []byte) int {
	mask := len(d.slots) - 1
	at := int(maphash.Bytes(d.seed, s)) & mask
	for d.slots[at] > 0 && !bytes.Equal(d.text(d.slots[at]-1), s) {
		at = (at + 1) & mask
	}
	return at
}

func (d *dictionary) grow() {
	d.slots = make([]textID, max(64, 2*len(d.slots)))
	for t := range d.ends {
		d.slots[d.slot(d.text(textID(t)))] = textID(t + 1)
	}
}

// rank brings ranks up to date. It compares no more than the new strings with each other, and with some of the others.
func (d *dictionary) rank() {
	known := len(d.sorted)
	if known == d.len() {
		return
	}
	compare := func(a, b textID) int { return bytes.Compare(d.text(a), d.text(b)) }
	added := make([]textID, 0, d.len()-known)
	for t := known; t < d.len(); t++ {
		added = append(added, textID(t))
	}
	slices.SortFunc(added, compare)
	sorted := make([]textID, 0, d.len()+d.len()/8)
	rest := d.sorted
	for _, t := range added {
		n, _ := slices.BinarySearchFunc(rest, t, compare)
		sorted = append(append(sorted, rest[:n]...), t)
		rest = rest[n:]
	}
	d.sorted = append(sorted, rest...)
	d.ranks = slices.Grow(d.ranks, len(d.sorted)-len(d.ranks))[:len(d.sorted)]
	for i, t := range d.sorted {
		d.ranks[t] = uint32(i)
	}
}

func (d *dictionary) weight() int64 {
	return int64(cap(d.bytes)) + 8*int64(cap(d.ends)) + 4*int64(len(d.slots)+cap(d.ranks)+cap(d.sorted))
}
