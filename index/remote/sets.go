package remote

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"mailstead.dev/index"
	"mailstead.dev/index/remote/wire"
)

// encodeSet and decodeSet are sets of emails as they travel.
func encodeSet(set *roaring.Bitmap) ([]byte, error) {
	set.RunOptimize()
	return set.ToBytes()
}

func decodeSet(data []byte) (*roaring.Bitmap, error) {
	set := roaring.New()
	if err := set.UnmarshalBinary(data); err != nil {
		return nil, fmt.Errorf("set of emails: %w", err)
	}
	return set, nil
}

// decodeSets decodes as many sets as there are queries.
func decodeSets(data [][]byte, queries int) ([]*roaring.Bitmap, error) {
	if len(data) != queries {
		return nil, fmt.Errorf("%d sets of emails for %d queries", len(data), queries)
	}
	sets := make([]*roaring.Bitmap, queries)
	for i := range sets {
		set, err := decodeSet(data[i])
		if err != nil {
			return nil, err
		}
		sets[i] = set
	}
	return sets, nil
}

// scopes are those of queries.
var scopes = map[index.Scope]wire.Query_Scope{
	index.Header: wire.Query_HEADER, index.Body: wire.Query_BODY, index.Anywhere: wire.Query_ANYWHERE,
}

func encodeQueries(queries []index.Query) []*wire.Query {
	all := make([]*wire.Query, len(queries))
	for i, q := range queries {
		all[i] = &wire.Query{Scope: scopes[q.In], Field: q.Field, Text: []byte(q.Text), Like: uint32(q.Like)}
	}
	return all
}

func decodeQueries(queries []*wire.Query) ([]index.Query, error) {
	all := make([]index.Query, len(queries))
	for i, q := range queries {
		known := false
		for scope, sent := range scopes {
			if sent == q.GetScope() {
				all[i], known = index.Query{In: scope, Field: q.GetField(), Text: string(q.GetText()), Like: index.Likeness(q.GetLike())}, true
			}
		}
		if !known || q.GetLike() > uint32(index.Loosest) { // of a front end of a later version, which reads the mail then
			return nil, status.Errorf(codes.InvalidArgument, "unknown scope %d, or likeness %d", q.GetScope(), q.GetLike())
		}
	}
	return all, nil
}
