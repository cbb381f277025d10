package message

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/klauspost/compress/dict"
	"github.com/klauspost/compress/zstd"
)

var train = flag.String("train", "", "write a dictionary trained from generated mail to this file (for a new version of the stored form)")

// TestTrain trains a dictionary: go test -run TestTrain -train metaN.dict
func TestTrain(t *testing.T) {
	if *train == "" {
		return
	}
	var samples [][]byte
	for seed := range uint64(3000) {
		m, err := Parse(bytes.NewReader(newGenerator(1<<32+seed).message()), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		e := metaEncoder{}
		e.meta(m)
		samples = append(samples, e.out)
	}
	d, err := dict.BuildZstdDict(samples, dict.Options{MaxDictSize: 16 << 10, HashBytes: 6, ZstdDictID: metaVersion, ZstdDictCompat: true, ZstdLevel: zstd.SpeedDefault})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*train, d, 0o644); err != nil {
		t.Fatal(err)
	}
}
