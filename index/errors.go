package index

import "errors"

// ErrNone is what those say who have the indexes of many accounts: of this one there is none, or none yet.
var ErrNone = errors.New("no search index of the account")
