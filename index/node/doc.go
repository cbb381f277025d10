// Package node keeps the search indexes of accounts on the local disk of one
// process: it opens them when they are searched and closes those that are not,
// follows the commits of mail at some distance, makes indexes anew that are
// damaged or of another version, and removes those of accounts that are gone.
//
// Nothing depends on it but speed. A search is told up to which email an index
// goes and reads the rest itself, and emails never change: so an answer is right
// whoever gives it, however late. That an account is one node's at a time spares
// work, and is no condition of anything.
package node
