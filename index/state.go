package index

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/blevesearch/bleve/v2/index/scorch"
)

// stateKey is where the state is in bleve's snapshot.
var stateKey = []byte("mailstead")

// state is what the index says of itself. It changes with the words.
type state struct {
	upTo   uint32
	stamp  uint64   // of the last change
	emails uint64   // how many there are
	files  []uint64 // of texts, by number
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode returns the stored form: varints, and a checksum, for bleve's snapshot has none of its content.
func (s state) encode() []byte {
	b := binary.AppendUvarint(nil, uint64(s.upTo))
	b = binary.AppendUvarint(b, s.stamp)
	b = binary.AppendUvarint(b, s.emails)
	for _, n := range s.files {
		b = binary.AppendUvarint(b, n)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func stateOf(snapshot *scorch.IndexSnapshot) (state, error) {
	b := snapshot.Internal()[string(stateKey)]
	if len(b) < 7 || crc32.Checksum(b[:len(b)-4], castagnoli) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return state{}, fmt.Errorf("%w: its state is not there, or not as it was written", ErrDamaged)
	}
	var list []uint64
	for b = b[:len(b)-4]; len(b) > 0; {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			return state{}, fmt.Errorf("%w: form of its state", ErrDamaged)
		}
		list, b = append(list, n), b[size:]
	}
	if len(list) < 3 {
		return state{}, fmt.Errorf("%w: form of its state", ErrDamaged)
	}
	return state{uint32(list[0]), list[1], list[2], list[3:]}, nil
}
