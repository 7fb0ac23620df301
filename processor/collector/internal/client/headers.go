package client

import (
	"context"
	"errors"
	"strings"

	sender "go.opentelemetry.io/collector/client"
	"google.golang.org/grpc/metadata"

	"github.com/spanledger/spanledger/processor/collector/internal/protocol"
)

var errHeader = errors.New("a header of metadata_keys holds what gRPC metadata cannot, and the enricher is too old to" +
	" take it otherwise: update spanledger serve")

// outgoing carries what the enricher may see of the sender's request. Nothing else of the context goes out. What gRPC
// cannot carry under its own name goes beside it, where the enricher says that it reads that; else there is an error.
func (c *Client) outgoing(ctx context.Context) (context.Context, error) {
	md := metadata.MD{}
	var beside strings.Builder
	info := sender.FromContext(ctx)
	for _, key := range c.cfg.MetadataKeys {
		values := info.Metadata.Get(key)
		if key = strings.ToLower(key); isMetadata(key, values) {
			if len(values) > 0 {
				md.Set(key, values...)
			}
			continue
		}
		for _, value := range values {
			beside.WriteString(key + ":" + strings.NewReplacer("\r", " ", "\n", " ").Replace(value) + "\n")
		}
	}
	var err error
	if beside.Len() > 0 {
		if d := c.described.Load(); d != nil && d.SenderHeaders {
			md.Set(protocol.SenderHeaders, beside.String())
		} else {
			err = errHeader
		}
	}
	return metadata.NewOutgoingContext(ctx, md), err
}

// isMetadata says whether gRPC carries a header as it is
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md): names that it uses itself are not sent, and values
// of a name that ends on "-bin" arrive as bytes.
func isMetadata(key string, values []string) bool {
	if strings.HasPrefix(key, "grpc-") || strings.HasSuffix(key, "-bin") {
		return false
	}
	switch key {
	case "content-type", "user-agent", "te", "host", "connection":
		return false
	}
	for _, r := range key {
		if (r < '0' || r > '9') && (r < 'a' || r > 'z') && !strings.ContainsRune("-_.", r) {
			return false
		}
	}
	for _, value := range values {
		for i := range len(value) {
			if value[i] < ' ' || value[i] > '~' {
				return false
			}
		}
	}
	return true
}
