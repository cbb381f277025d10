// Package remote lets the front ends of one process search in the indexes of
// another (gRPC). What is asked is in wire/index.proto.
package remote

//go:generate protoc --go_out=wire --go_opt=paths=source_relative --go-grpc_out=wire --go-grpc_opt=paths=source_relative --proto_path=wire index.proto
