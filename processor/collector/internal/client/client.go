package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	sender "go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/processor/collector/internal/protocol"
)

// Reasons why telemetry went on without enrichment: values of the attribute spanledger.missed and of metrics.
const (
	NotConnected = "not_connected" // no connection, or no handshake yet
	Timeout      = "timeout"
	Overloaded   = "overloaded" // max_in_flight_mib is used up, or the enricher says that it is
	TooLarge     = "too_large"  // one span over max_message_mib, or with an answer over four times that
	BadAnswer    = "bad_answer" // the answer does not follow the protocol
	Refused      = "refused"    // the enricher answered with an error that is not retryable
)

// Missed is an error with the reason why telemetry could not be enriched. Permanent: it would fail again however often it
// is sent, for it is the telemetry itself that cannot be enriched. Stale: it was selected by a description that is no
// longer the enricher's, which did nothing; Renew, select and ask again.
type Missed struct {
	Reason    string
	Err       error
	Permanent bool
	Stale     bool
}

func (m *Missed) Error() string { return fmt.Sprintf("%s: %v", m.Reason, m.Err) }

func (m *Missed) Unwrap() error { return m.Err }

// Retryable returns the error for the sender when on_error is refuse: never a code on which senders drop data, since
// nothing here is the data's fault.
func (m *Missed) Retryable() error {
	return status.Error(codes.Unavailable, "spanledger: "+m.Error())
}

// ErrTooLarge says that what cannot be split further is larger than a message may be.
var ErrTooLarge = errors.New("a single span or record is larger than max_message_mib")

var (
	errResting = errors.New("the enricher could not be reached a moment ago")
	errNoRoom  = errors.New("max_in_flight_mib is used up")
	errStale   = errors.New("the enricher has other lists than this request was selected by")
)

const (
	logEvery = 10 * time.Second
	// With the default cooldown, telemetry is enriched again within two seconds after an outage of any length: gRPC's own
	// default waits up to two minutes between dials.
	longestRedial = 800 * time.Millisecond
	dialTimeout   = 2 * time.Second
)

func redial() grpc.ConnectParams {
	params := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: dialTimeout}
	params.Backoff.BaseDelay = longestRedial
	params.Backoff.MaxDelay = longestRedial
	return params
}

// Client of one component.
type Client struct {
	cfg  *Config
	set  component.TelemetrySettings
	host component.Host
	use  func(protocol.Description)
	room *semaphore.Weighted
	conn *grpc.ClientConn

	restUntil atomic.Int64
	loggedAt  atomic.Int64
	failing   atomic.Bool

	describing sync.Mutex
	described  atomic.Pointer[protocol.Description]
	stale      atomic.Bool // the description in force has to be asked for again
}

// New makes a client; use is told each new description.
func New(cfg *Config, set component.TelemetrySettings, use func(protocol.Description)) *Client {
	return &Client{cfg: cfg, set: set, use: use, room: semaphore.NewWeighted(int64(cfg.MaxInFlightMiB) * mib)}
}

// Start dials. The enricher need not be there yet.
func (c *Client) Start(ctx context.Context, host component.Host) (err error) {
	c.host = host
	c.conn, err = c.cfg.ToClientConn(ctx, host.GetExtensions(), c.set,
		configgrpc.WithGrpcDialOption(grpc.WithConnectParams(redial())))
	if err == nil {
		c.conn.Connect()
	}
	return err
}

// Shutdown closes the connection; calls under way end with it, so it comes after the last call.
func (c *Client) Shutdown(context.Context) error {
	if c.conn == nil {
		return nil
	}
	return c.conn.Close()
}

// MaxMessage is the largest telemetry in bytes that one request may carry.
func (c *Client) MaxMessage() int {
	limit := c.cfg.MaxMessageMiB * mib
	if d := c.described.Load(); d != nil && d.MaxMessageBytes > 0 {
		limit = min(limit, int(d.MaxMessageBytes))
	}
	return limit - 4096 // for what stands around it
}

// Describe does the handshake if it has not been done, or has to be done again, and returns the description in force. One
// that was had before stays in force until there is another.
func (c *Client) Describe(ctx context.Context) (protocol.Description, *Missed) {
	if d := c.described.Load(); d != nil && (!c.stale.Load() || !c.describing.TryLock()) {
		return *d, nil
	} else if d == nil {
		c.describing.Lock()
	}
	defer c.describing.Unlock()
	before := c.described.Load()
	if before != nil && !c.stale.Load() {
		return *before, nil
	}
	d, missed := c.describe(ctx)
	if missed != nil && before != nil {
		return *before, nil
	}
	return d, missed
}

// Renew asks for the description, unless another one than that of this revision is in force by now.
func (c *Client) Renew(ctx context.Context, revision string) *Missed {
	c.describing.Lock()
	defer c.describing.Unlock()
	if d := c.described.Load(); d != nil && d.Revision != revision {
		return nil
	}
	_, missed := c.describe(ctx)
	return missed
}

// describe asks, and puts the answer in force. The caller holds the lock.
func (c *Client) describe(ctx context.Context) (protocol.Description, *Missed) {
	buffer, missed := c.call(ctx, protocol.Describe, protocol.DescribeRequest())
	if missed != nil {
		return protocol.Description{}, missed
	}
	defer buffer.Free()
	answer := buffer.ReadOnlyData()
	d, err := protocol.ReadDescription(answer)
	if err != nil {
		return d, c.failed(&Missed{Reason: BadAnswer, Err: err})
	}
	c.use(d)
	c.stale.Store(false)
	c.described.Store(&d)
	c.succeeded()
	return d, nil
}

// Redescribe has the next request ask for the description again.
func (c *Client) Redescribe() { c.stale.Store(true) }

// Call a method with an encoded export request that was selected by the description of this revision, and have its
// answer read: whether it is stale. What is read must not keep the bytes.
func (c *Client) Call(
	ctx context.Context, method, revision string, telemetry []byte, read func([]byte) (stale bool, err error),
) *Missed {
	answer, missed := c.call(ctx, method, protocol.RequestHead(revision, len(telemetry)), telemetry)
	if missed != nil {
		return missed
	}
	defer answer.Free()
	stale, err := read(answer.ReadOnlyData())
	if err != nil {
		return c.failed(&Missed{Reason: BadAnswer, Err: err})
	}
	c.succeeded()
	if stale {
		c.Redescribe()
		return &Missed{Reason: NotConnected, Err: errStale, Stale: true}
	}
	return nil
}

// call a method with a message in pieces. The caller frees the answer.
func (c *Client) call(ctx context.Context, method string, request ...[]byte) (mem.Buffer, *Missed) {
	if time.Now().UnixNano() < c.restUntil.Load() {
		return nil, &Missed{Reason: NotConnected, Err: errResting}
	}
	// A sender that leaves must not end the call: the enricher commits all the same, and would look sick to the others.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.outgoing(ctx)), c.cfg.Timeout)
	defer cancel()
	size := int64(0)
	for _, piece := range request {
		size += int64(len(piece))
	}
	size = min(size, int64(c.cfg.MaxInFlightMiB)*mib)
	if err := c.room.Acquire(ctx, size); err != nil {
		return nil, c.failed(&Missed{Reason: Overloaded, Err: errNoRoom})
	}
	defer c.room.Release(size)
	var answer mem.Buffer
	limit := 4 * c.cfg.MaxMessageMiB * mib
	err := c.conn.Invoke(ctx, method, request, &answer,
		grpc.ForceCodecV2(raw{}), grpc.MaxCallRecvMsgSize(limit), grpc.MaxCallSendMsgSize(limit))
	if isTooLarge(err) {
		return nil, &Missed{Reason: TooLarge, Err: err, Permanent: true}
	}
	if err != nil {
		permanent := status.Code(err) == codes.InvalidArgument
		return nil, c.failed(&Missed{Reason: c.reason(err), Err: c.explained(err), Permanent: permanent})
	}
	return answer, nil
}

// isTooLarge says whether one of the messages was larger than who got it takes. It is smaller when it is split: answers of
// small spans are larger than these.
func isTooLarge(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "eceived message larger than max")
}

// explained adds what to do about an error, where the error is a mistake in a configuration.
func (c *Client) explained(err error) error {
	hint := ""
	switch text := err.Error(); {
	case status.Code(err) == codes.Unimplemented:
		hint = "a gRPC server answers there that is no enricher; endpoint has to be that of receivers.enricher in the" +
			" configuration of spanledger serve (4321 unless set), not an OTLP port"
	case status.Code(err) == codes.Unauthenticated, status.Code(err) == codes.PermissionDenied:
		hint = `receivers.enricher.auth asks for a token: set headers: {authorization: "Bearer ..."}`
	case strings.Contains(text, "HTTP/1.1 header"):
		hint = "what listens there speaks HTTP/1.1, like the API and OTLP/HTTP; endpoint has to be that of" +
			" receivers.enricher (4321 unless set)"
	case strings.Contains(text, "server preface"):
		hint = "what listens there does not speak gRPC in plain text: if receivers.enricher.tls is set, set" +
			" tls: {insecure: false, ca_file: ...} here"
	case strings.Contains(text, "first record does not look like a TLS handshake"):
		hint = "what listens there speaks plain text: set tls: {insecure: true}, or receivers.enricher.tls there"
	default:
		return err
	}
	return fmt.Errorf("%s: %w (%s)", c.cfg.Endpoint, err, hint)
}

func (c *Client) reason(err error) string {
	switch status.Code(err) {
	case codes.Unavailable:
		c.rest()
		c.Redescribe() // what comes back may have other lists
		return NotConnected
	case codes.DeadlineExceeded:
		c.rest()
		return Timeout
	case codes.ResourceExhausted:
		return Overloaded
	default:
		return Refused
	}
}

func (c *Client) rest() { c.restUntil.Store(time.Now().Add(c.cfg.Cooldown).UnixNano()) }

// outgoing carries what the enricher may see of the sender's request. Nothing else of the context goes out.
func (c *Client) outgoing(ctx context.Context) context.Context {
	md := metadata.MD{}
	info := sender.FromContext(ctx)
	for _, key := range c.cfg.MetadataKeys {
		if values := info.Metadata.Get(key); len(values) > 0 {
			md.Set(key, values...)
		}
	}
	return metadata.NewOutgoingContext(ctx, md)
}

func (c *Client) succeeded() {
	if c.failing.CompareAndSwap(true, false) {
		c.set.Logger.Info("the enricher answers again")
		c.report(componentstatus.NewEvent(componentstatus.StatusOK))
	}
}

func (c *Client) failed(missed *Missed) *Missed {
	if c.failing.CompareAndSwap(false, true) {
		c.report(componentstatus.NewRecoverableErrorEvent(missed))
	}
	now, before := time.Now().UnixNano(), c.loggedAt.Load()
	if now-before >= int64(logEvery) && c.loggedAt.CompareAndSwap(before, now) {
		c.set.Logger.Warn("telemetry is not enriched",
			zap.String("endpoint", c.cfg.Endpoint), zap.String("on_error", c.cfg.OnError), zap.Error(missed))
	}
	return missed
}

func (c *Client) report(event *componentstatus.Event) {
	if c.host != nil {
		componentstatus.ReportStatus(c.host, event)
	}
}

// raw hands bytes through: both sides encode by themselves.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	pieces, ok := v.([][]byte)
	if !ok {
		return nil, fmt.Errorf("raw codec: %T", v)
	}
	message := make(mem.BufferSlice, 0, len(pieces))
	for _, piece := range pieces {
		message = append(message, mem.SliceBuffer(piece))
	}
	return message, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	answer, ok := v.(*mem.Buffer)
	if !ok {
		return fmt.Errorf("raw codec: %T", v)
	}
	*answer = data.MaterializeToBuffer(mem.DefaultBufferPool())
	return nil
}
