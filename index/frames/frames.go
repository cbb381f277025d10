// Package frames keeps records, numbered octet strings, in files that never
// change: compressed by the frame, of up to PerFrame records each, so that what
// is alike is compressed together and one can be read without the rest. Each
// frame and the table of them are checksummed. What the records hold, which
// files count, and which records are still wanted, is the caller's.
package frames

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/klauspost/compress/zstd"
)

// How much a frame takes.
const (
	PerFrame   = 64
	FrameBytes = 1 << 20 // a frame that has reached it takes no more records
)

// ErrDamaged says that a file is not as it was written.
var ErrDamaged = errors.New("file of frames is damaged")

// maxFrame bounds what a frame may hold, whatever a damaged file says.
const maxFrame = 64 << 20

// Record is one of them. Numbers rise within a frame, and from frame to frame of a file.
type Record struct {
	Number uint32
	Data   []byte
}

// Frame is records, compressed.
type Frame struct {
	Numbers []uint32
	Bytes   []byte
}

var codecs = sync.OnceValues(func() (*zstd.Encoder, *zstd.Decoder) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(true))
	if err != nil {
		panic(err) // options of ours
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxFrame))
	if err != nil {
		panic(err)
	}
	return e, d
})

// Pack compresses records.
func Pack(records []Record) Frame {
	size := 0
	for _, r := range records {
		size += len(r.Data) + binary.MaxVarintLen32
	}
	f := Frame{Numbers: make([]uint32, len(records))}
	plain := make([]byte, 0, size)
	for i, r := range records {
		f.Numbers[i] = r.Number
		plain = binary.AppendUvarint(plain, uint64(len(r.Data)))
	}
	for _, r := range records {
		plain = append(plain, r.Data...)
	}
	encoder, _ := codecs()
	f.Bytes = encoder.EncodeAll(plain, nil)
	return f
}

// unpack is the inverse of Pack. buf is what it may use, and the records lie in the result.
func unpack(f Frame, buf []byte) (records []Record, used []byte, err error) {
	_, decoder := codecs()
	plain, err := decoder.DecodeAll(f.Bytes, buf[:0])
	if err != nil {
		return nil, buf, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	records = make([]Record, len(f.Numbers))
	lengths, at := plain, 0
	for range records {
		n, size := binary.Uvarint(lengths)
		if size <= 0 || n > uint64(len(plain)) {
			return nil, plain, fmt.Errorf("%w: lengths of records", ErrDamaged)
		}
		lengths = lengths[size:]
		at += size
	}
	data, rest := plain[at:], plain
	for i := range records {
		n, size := binary.Uvarint(rest)
		rest = rest[size:]
		if n > uint64(len(data)) {
			return nil, plain, fmt.Errorf("%w: lengths of records", ErrDamaged)
		}
		records[i] = Record{f.Numbers[i], data[:n:n]}
		data = data[n:]
	}
	if len(data) > 0 {
		return nil, plain, fmt.Errorf("%w: more than its records", ErrDamaged)
	}
	return records, plain, nil
}

// A file is magic, frames, their table, and a footer: where the table begins,
// how long it is, its checksum, magic. Of each frame the table has, as varints,
// how long it is, how many records there are, and their numbers as differences.
const (
	magic      = "MSFRAME1"
	footerSize = 8 + 4 + 4 + len(magic)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Write makes a file. It is durable, its name too, when Write returns.
func Write(path string, list []Frame) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(path) // what is left of it counts for nothing
		}
	}()
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()

	at := int64(0)
	write := func(b []byte) error {
		at += int64(len(b))
		_, err := f.Write(b)
		return err
	}
	if err := write([]byte(magic)); err != nil {
		return err
	}
	var table []byte
	last := uint32(0)
	for _, frame := range list {
		table = binary.AppendUvarint(table, uint64(len(frame.Bytes)))
		table = binary.AppendUvarint(table, uint64(len(frame.Numbers)))
		for _, n := range frame.Numbers {
			if n <= last {
				return fmt.Errorf("record %d after %d", n, last)
			}
			table = binary.AppendUvarint(table, uint64(n-last))
			last = n
		}
		if err := write(frame.Bytes); err != nil {
			return err
		}
	}
	footer := binary.LittleEndian.AppendUint64(nil, uint64(at))
	footer = binary.LittleEndian.AppendUint32(footer, uint32(len(table)))
	footer = binary.LittleEndian.AppendUint32(footer, crc32.Checksum(table, castagnoli))
	if err := write(append(append(table, footer...), magic...)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return SyncFolder(filepath.Dir(path))
}

// SyncFolder makes the names in a folder durable.
func SyncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// File is what is known of a file without reading its frames.
type File struct {
	Path    string
	Size    int64
	Numbers *roaring.Bitmap // of its records
	frames  []place
}

// place is where a frame is.
type place struct {
	first, last uint32
	records     int32
	size        int32
	off         int64
}

// Open reads the table of a file.
func Open(path string) (*File, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		return nil, err
	}
	f := &File{Path: path, Size: info.Size(), Numbers: roaring.New()}
	if f.Size < int64(len(magic)+footerSize) {
		return nil, fmt.Errorf("%w: %s is too short", ErrDamaged, path)
	}
	footer := make([]byte, footerSize)
	if _, err := r.ReadAt(footer, f.Size-int64(footerSize)); err != nil {
		return nil, err
	}
	at, length := binary.LittleEndian.Uint64(footer), binary.LittleEndian.Uint32(footer[8:])
	if string(footer[16:]) != magic || at < uint64(len(magic)) || at > uint64(f.Size) || at+uint64(length)+uint64(footerSize) != uint64(f.Size) {
		return nil, fmt.Errorf("%w: footer of %s", ErrDamaged, path)
	}
	table := make([]byte, length)
	if _, err := r.ReadAt(table, int64(at)); err != nil {
		return nil, err
	}
	if crc32.Checksum(table, castagnoli) != binary.LittleEndian.Uint32(footer[12:]) {
		return nil, fmt.Errorf("%w: table of %s", ErrDamaged, path)
	}
	if !f.read(table, int64(at)) {
		return nil, fmt.Errorf("%w: table of %s", ErrDamaged, path)
	}
	return f, nil
}

// read takes in the table, which begins where the frames end.
func (f *File) read(table []byte, end int64) bool {
	next := func() (n uint64) {
		n, size := binary.Uvarint(table)
		if size <= 0 {
			table = nil
			return 0
		}
		table = table[size:]
		return n
	}
	at, last := int64(len(magic)), uint64(0)
	var numbers []uint32
	for len(table) > 0 {
		p := place{off: at, size: int32(next()), records: int32(next())}
		if p.size <= 0 || p.records <= 0 || int64(p.size) > end-at || int(p.records) > len(table) {
			return false
		}
		for i := range p.records {
			last += next()
			if i == 0 {
				p.first = uint32(last)
			}
			numbers = append(numbers, uint32(last))
		}
		p.last = uint32(last)
		at += int64(p.size)
		f.frames = append(f.frames, p)
	}
	f.Numbers.AddMany(numbers)
	f.Numbers.RunOptimize()
	return at == end && last <= 1<<32-1 && f.Numbers.GetCardinality() == uint64(len(numbers))
}

// Memory is how many octets f holds, more or less.
func (f *File) Memory() int64 {
	return int64(len(f.frames))*24 + int64(f.Numbers.GetSizeInBytes()) + int64(len(f.Path)) + 100
}

// Frames returns the numbers of the frames that hold any of the records.
func (f *File) Frames(records *roaring.Bitmap) []int {
	var list []int
	for i, p := range f.frames {
		if records.IntersectsWithInterval(uint64(p.first), uint64(p.last)+1) {
			list = append(list, i)
		}
	}
	return list
}

// Reader reads frames of a file. It is safe for concurrent use.
type Reader struct {
	file *File
	r    *os.File
}

// Reader opens f for reading. The file may be removed as soon as it returns.
func (f *File) Reader() (*Reader, error) {
	r, err := os.Open(f.Path)
	if err != nil {
		return nil, err
	}
	return &Reader{f, r}, nil
}

func (r *Reader) Close() error { return r.r.Close() }

// Frame reads a frame as it is stored.
func (r *Reader) frame(i int) (Frame, error) {
	p := r.file.frames[i]
	f := Frame{Bytes: make([]byte, p.size)}
	if _, err := r.r.ReadAt(f.Bytes, p.off); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: %s is too short", ErrDamaged, r.file.Path)
		}
		return Frame{}, err
	}
	numbers := r.file.Numbers.Iterator()
	numbers.AdvanceIfNeeded(p.first)
	f.Numbers = make([]uint32, 0, p.records)
	for range p.records {
		f.Numbers = append(f.Numbers, numbers.Next())
	}
	return f, nil
}

// Records reads the records of a frame, into buf where they fit; they lie in the buffer that is returned.
func (r *Reader) Records(i int, buf []byte) ([]Record, []byte, error) {
	f, err := r.frame(i)
	if err != nil {
		return nil, buf, err
	}
	records, buf, err := unpack(f, buf)
	if err != nil {
		err = fmt.Errorf("%s, frame %d: %w", r.file.Path, i, err)
	}
	return records, buf, err
}

// Merge makes one list of frames of the records in all the files that are wanted.
// Frames that are full and all wanted are taken as they are.
func Merge(files []*File, wanted *roaring.Bitmap) (list []Frame, err error) {
	type source struct {
		place
		r *Reader
		i int
	}
	var sources []source
	for _, f := range files {
		r, err := f.Reader()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		for i, p := range f.frames {
			sources = append(sources, source{p, r, i})
		}
	}
	slices.SortFunc(sources, func(a, b source) int { return int(int64(a.first) - int64(b.first)) })

	var pending []Record
	flush := func(all bool) {
		for n := frameOf(pending, all); n > 0; n = frameOf(pending, all) {
			list = append(list, Pack(pending[:n]))
			pending = slices.Delete(pending, 0, n)
		}
	}
	for len(sources) > 0 {
		n, last := 1, sources[0].last // frames that interleave with each other
		for n < len(sources) && sources[n].first <= last {
			last = max(last, sources[n].last)
			n++
		}
		if s := sources[0]; n == 1 && s.records >= PerFrame/2 && (len(pending) == 0 || len(pending) >= PerFrame/2) {
			f, err := s.r.frame(s.i)
			if err != nil {
				return nil, err
			}
			if wanted.AndCardinality(roaring.BitmapOf(f.Numbers...)) == uint64(len(f.Numbers)) {
				flush(true)
				list = append(list, f)
				sources = sources[1:]
				continue
			}
		}
		var records []Record
		for _, s := range sources[:n] {
			more, _, err := s.r.Records(s.i, nil)
			if err != nil {
				return nil, err
			}
			for _, r := range more {
				if wanted.Contains(r.Number) {
					records = append(records, r)
				}
			}
		}
		slices.SortStableFunc(records, func(a, b Record) int { return int(int64(a.Number) - int64(b.Number)) })
		records = slices.CompactFunc(records, func(a, b Record) bool { return a.Number == b.Number })
		pending = append(pending, records...)
		flush(false)
		sources = sources[n:]
	}
	flush(true)
	return list, nil
}

// frameOf returns how many records make the next frame; 0 where they do not fill one yet, unless all are to go.
func frameOf(records []Record, all bool) int {
	size := 0
	for i, r := range records {
		if i == PerFrame || size >= FrameBytes {
			return i
		}
		size += len(r.Data)
	}
	if all || len(records) == PerFrame || size >= FrameBytes {
		return len(records)
	}
	return 0
}

// Split cuts records into what makes a frame each.
func Split(records []Record) (frames [][]Record) {
	for len(records) > 0 {
		n := frameOf(records, true)
		frames = append(frames, records[:n])
		records = records[n:]
	}
	return frames
}
