// Package local runs a private PostgreSQL and the S3 server deploy/devs3 on one
// machine, for `mailstead dev` and for store/storetest. Both are children that
// end with their parent, keep everything in a folder of their own, and start
// cleanly whatever ended them. The machine's own database cluster is never touched.
package local
