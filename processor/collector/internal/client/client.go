package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configgrpc"
	"golang.org/x/sync/semaphore"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/processor/collector/internal/protocol"
)

// Reasons why telemetry went on without enrichment: values of the attribute spanledger.missed and of metrics.
const (
	NotConnected = "not_connected" // no connection, or no handshake yet
	Timeout      = "timeout"       // no answer within the timeout, most of which the enricher had for it
	Overloaded   = "overloaded"    // for all of the timeout max_in_flight_mib was used up, here or at the enricher
	TooLarge     = "too_large"     // one span over max_message_mib, or with an answer over four times that
	BadAnswer    = "bad_answer"    // the answer does not follow the protocol
	Failed       = "failed"        // in metrics only: an error inside the enricher
	Refused      = "refused"       // the enricher answered with another error, or could not be sent a header
)

// Reasons are all of them. A counter begins at 0 for each, so that an increase over it shows the first one.
var Reasons = [...]string{NotConnected, Timeout, Overloaded, TooLarge, BadAnswer, Refused, Failed}

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

var (
	errTooLarge    = errors.New("a single span or record is larger than max_message_mib, or its answer than four times that")
	errNoRoom      = errors.New("max_in_flight_mib is used up")
	errNoHandshake = errors.New("requests before this one have waited for the handshake with the enricher for all of the timeout")
	errStale       = errors.New("the enricher has other lists than this request was selected by")
)

const (
	// With the default cooldown, telemetry is enriched again within two seconds after an outage of any length: gRPC's own
	// default waits up to two minutes between dials.
	longestRedial = 800 * time.Millisecond
	dialTimeout   = 2 * time.Second
	// Waits before an enricher that says it is overloaded is asked again; each is twice the one before.
	firstWait   = 50 * time.Millisecond
	longestWait = time.Second
)

func redial() grpc.ConnectParams {
	params := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: dialTimeout}
	params.Backoff.BaseDelay = longestRedial
	params.Backoff.MaxDelay = longestRedial
	return params
}

// Client of one component.
type Client struct {
	health
	use  func(protocol.Description)
	room *semaphore.Weighted
	conn *grpc.ClientConn

	describing sync.Mutex
	described  atomic.Pointer[protocol.Description]
	stale      atomic.Bool // the description in force has to be asked for again
	answered   atomic.Bool // what listens at the endpoint is an enricher that can be spoken to
}

// New makes a client; use is told each new description.
func New(cfg *Config, set component.TelemetrySettings, use func(protocol.Description)) *Client {
	return &Client{
		health: health{cfg: cfg, set: set, logged: map[string]time.Time{}},
		use:    use, room: semaphore.NewWeighted(int64(cfg.MaxInFlightMiB) * mib),
	}
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
	if d := c.described.Load(); d != nil && d.MaxMessageBytes > 0 && d.MaxMessageBytes < uint64(limit) {
		limit = int(d.MaxMessageBytes)
	}
	return limit - 4096 // for what stands around it
}

// Describe does the handshake if it has not been done, or has to be done again, and returns the description in force. One
// that was had before stays in force until there is another.
func (c *Client) Describe(ctx context.Context) (protocol.Description, *Missed) {
	asked := time.Now()
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
	d, missed := c.describe(ctx, asked)
	if missed != nil && before != nil {
		return *before, nil
	}
	return d, missed
}

// Renew asks for the description, unless another one than that of this revision is in force by now.
func (c *Client) Renew(ctx context.Context, revision string) *Missed {
	asked := time.Now()
	c.describing.Lock()
	defer c.describing.Unlock()
	if d := c.described.Load(); d != nil && d.Revision != revision {
		return nil
	}
	_, missed := c.describe(ctx, asked)
	return missed
}

// describe asks, and puts the answer in force. The caller holds the lock, for which it has waited since it asked: those
// that wait behind each other wait no longer than the timeout.
func (c *Client) describe(ctx context.Context, asked time.Time) (protocol.Description, *Missed) {
	if time.Since(asked) >= c.cfg.Timeout {
		return protocol.Description{}, c.failed(&Missed{Reason: Overloaded, Err: errNoHandshake})
	}
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
	c.answered.Store(true)
	c.stale.Store(false)
	c.described.Store(&d)
	c.succeeded()
	return d, nil
}

// NeverFits is why a single span or record that is too large for a message is not enriched.
func (c *Client) NeverFits() *Missed {
	return c.failed(&Missed{Reason: TooLarge, Err: errTooLarge, Permanent: true})
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
	if rest := c.resting.Load(); rest != nil && time.Now().Before(rest.until) {
		return nil, &Missed{Reason: rest.cause.Reason, Err: fmt.Errorf("not asked for %s since: %w", c.cfg.Cooldown, rest.cause.Err)}
	}
	ctx, err := c.outgoing(ctx)
	if err != nil && method != protocol.Describe {
		c.Redescribe() // it may be another enricher by now
		missed := &Missed{Reason: Refused, Err: err}
		c.log("header", "a request is not enriched", missed)
		return nil, missed
	}
	// A sender that leaves must not end the call: the enricher commits all the same, and would look sick to the others.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.Timeout)
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
	answer, begun, err := c.invoke(ctx, method, request)
	if isTooLarge(err) {
		return nil, &Missed{Reason: TooLarge, Err: err, Permanent: true}
	}
	if err != nil {
		return nil, c.failed(c.missed(err, begun))
	}
	return answer, nil
}

// invoke a method, again and again while the enricher says that it is overloaded and there is time. It also tells when
// the last try began.
func (c *Client) invoke(ctx context.Context, method string, request [][]byte) (answer mem.Buffer, begun time.Time, err error) {
	limit := 4 * c.cfg.MaxMessageMiB * mib
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		begun = time.Now()
		err = c.conn.Invoke(ctx, method, request, &answer,
			grpc.ForceCodecV2(raw{}), grpc.MaxCallRecvMsgSize(limit), grpc.MaxCallSendMsgSize(limit))
		if status.Code(err) != codes.ResourceExhausted || isTooLarge(err) {
			return answer, begun, err
		}
		// Up to half as long again, so that those who were refused together do not come back together.
		pause := min(max(wait, retryDelay(err)), c.cfg.Timeout)
		pause += time.Duration(rand.Int64N(int64(pause)/2 + 1))
		if until, _ := ctx.Deadline(); time.Until(until) <= pause {
			return answer, begun, err
		}
		time.Sleep(pause)
	}
}

// retryDelay is how long the enricher asks to be left alone, in a google.rpc.RetryInfo.
func retryDelay(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// isTooLarge says whether one of the messages was larger than who got it takes. It is smaller when it is split: answers of
// small spans are larger than these.
func isTooLarge(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "eceived message larger than max")
}

// missed tells why a call failed that began then, and leaves the enricher alone where it could not be reached or had most
// of the timeout and did not answer.
func (c *Client) missed(err error, begun time.Time) *Missed {
	missed := &Missed{Reason: Refused, Err: c.explained(err)}
	switch status.Code(err) {
	case codes.Unavailable:
		missed.Reason = NotConnected
		c.rest(missed)
		c.Redescribe() // what comes back may have other lists
	case codes.DeadlineExceeded:
		if missed.Reason = Timeout; time.Since(begun) < c.cfg.Timeout/2 {
			missed.Reason = Overloaded // its time went by while it waited for a place
			break
		}
		c.rest(missed)
	case codes.ResourceExhausted:
		missed.Reason = Overloaded
	case codes.InvalidArgument:
		missed.Permanent = true
	}
	return missed
}

// explained adds what to do about an error, where the error can only be a mistake in a configuration.
func (c *Client) explained(err error) error {
	hint := ""
	switch text := err.Error(); {
	case status.Code(err) == codes.Unimplemented:
		hint = "a gRPC server answers there that is no enricher; endpoint has to be that of receivers.enricher in the" +
			" configuration of spanledger serve (4321 unless set), not an OTLP port"
	case status.Code(err) == codes.Unauthenticated, status.Code(err) == codes.PermissionDenied:
		hint = c.aboutToken()
	case strings.Contains(text, "HTTP/1.1 header"):
		hint = "what listens there speaks HTTP/1.1, like the API and OTLP/HTTP; endpoint has to be that of" +
			" receivers.enricher (4321 unless set)"
	case strings.Contains(text, "first record does not look like a TLS handshake"):
		hint = "what listens there speaks plain text: set tls: {insecure: true}, or receivers.enricher.tls there"
	case strings.Contains(text, "server preface") && strings.Contains(text, "frame too large"):
		hint = "what listens there does not speak gRPC in plain text, but TLS (then set tls: {insecure: false, ca_file: ...}" +
			" here) or HTTP/1.1 (endpoint has to be that of receivers.enricher, 4321 unless set)"
	case strings.Contains(text, "server preface") && !c.answered.Load():
		// Also what a process does that is about to end.
		hint = "if it is so each time: what listens there does not speak gRPC in plain text; with receivers.enricher.tls," +
			" set tls: {insecure: false, ca_file: ...} here"
	default:
		return err
	}
	return fmt.Errorf("%s: %w (%s)", c.cfg.Endpoint, err, hint)
}

func (c *Client) aboutToken() string {
	if c.cfg.Auth.HasValue() {
		return "receivers.enricher.auth asks for another token than auth gives here"
	}
	for name := range c.cfg.Headers.Iter {
		if strings.EqualFold(name, "authorization") {
			return `receivers.enricher.auth asks for another token than headers gives here: it has to be authorization: "Bearer ...",` +
				` with the token of receivers.enricher.auth.bearer_token`
		}
	}
	return `receivers.enricher.auth asks for a token: set headers: {authorization: "Bearer ..."}`
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
