package selection

import (
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/spanledger/spanledger/processor/collector/internal/protocol"
)

// Records selects log records that spans may be made from, by the beginning of their event name.
type Records struct {
	description atomic.Pointer[protocol.Description]
}

// NewRecords makes a selection that selects nothing until it is told how.
func NewRecords() *Records { return &Records{} }

// Use the lists of a description from now on.
func (r *Records) Use(description protocol.Description) { r.description.Store(&description) }

// Select copies the records, and tells the revision of the description that it went by: the logs themselves are shared
// with other consumers.
func (r *Records) Select(ld plog.Logs) (part plog.Logs, revision string) {
	d := r.description.Load()
	if d == nil {
		return plog.NewLogs(), ""
	}
	return copyRecords(ld, func(record plog.LogRecord) bool { return marked(record, d.LogMarkers) }), d.Revision
}

// Events is the number of records that are events, with a name of their own. It only serves to count what is missed before
// the first handshake, when the names that spans are made from are not known.
func Events(ld plog.Logs) (n int) {
	for _, rl := range ld.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			for _, record := range sl.LogRecords().All() {
				if _, named := record.Attributes().Get("event.name"); named || record.EventName() != "" {
					n++
				}
			}
		}
	}
	return n
}

// Halves splits a request into two by its records.
func Halves(ld plog.Logs) (first, second plog.Logs) {
	half, n := ld.LogRecordCount()/2, 0
	counted := func(plog.LogRecord) bool { n++; return n <= half }
	first = copyRecords(ld, counted)
	n = 0
	second = copyRecords(ld, func(record plog.LogRecord) bool { return !counted(record) })
	return first, second
}

func copyRecords(ld plog.Logs, wanted func(plog.LogRecord) bool) plog.Logs {
	part := plog.NewLogs()
	for _, rl := range ld.ResourceLogs().All() {
		var resource plog.ResourceLogs
		hasResource := false
		for _, sl := range rl.ScopeLogs().All() {
			var records plog.LogRecordSlice
			hasScope := false
			for _, record := range sl.LogRecords().All() {
				if !wanted(record) {
					continue
				}
				if !hasResource {
					resource, hasResource = part.ResourceLogs().AppendEmpty(), true
					rl.Resource().CopyTo(resource.Resource())
				}
				if !hasScope {
					scope := resource.ScopeLogs().AppendEmpty()
					sl.Scope().CopyTo(scope.Scope())
					records, hasScope = scope.LogRecords(), true
				}
				record.CopyTo(records.AppendEmpty())
			}
		}
	}
	return part
}

func marked(record plog.LogRecord, markers []string) bool {
	if begins(record.EventName(), markers) {
		return true
	}
	if name, ok := record.Attributes().Get("event.name"); ok && begins(name.Str(), markers) {
		return true
	}
	return begins(record.Body().Str(), markers)
}

func begins(name string, markers []string) bool {
	for _, m := range markers {
		if strings.HasPrefix(name, m) {
			return true
		}
	}
	return false
}
