package web

import (
	"crypto/sha256"
	"net/http"
	"sync"
	"time"
)

const (
	onceLife  = 24 * time.Hour
	onceApp   = 4096    // keys remembered of one app; the oldest goes
	onceAll   = 1 << 16 // of all apps; the oldest of the app that has most goes. About 15 MB
	onceSweep = time.Minute
)

// once remembers what apps sent under an Idempotency-Key, in memory: after a restart of the gateway a call that is
// repeated sends again. What was refused is not remembered, because nothing was sent. Safe for concurrent use.
type once struct {
	now func() time.Time // immutable

	mu    sync.Mutex
	apps  map[string]*sentBy // guarded by mu, as is the rest
	total int
	swept time.Time
}

// sentBy is what one app sent, oldest first.
type sentBy struct {
	byKey map[[32]byte]*sent
	order []*sent
}

// sent is one call. Its answer is nil while it is being carried out.
type sent struct {
	key, body [32]byte
	time      time.Time
	answer    any
}

func newOnce(now func() time.Time) *once { return &once{now: now, apps: map[string]*sentBy{}} }

var (
	errKeyReused = &Error{Status: http.StatusUnprocessableEntity, Kind: "key-reused", Field: "Idempotency-Key",
		Text: "This Idempotency-Key came with another body before."}
	errInProgress = &Error{Status: http.StatusConflict, Kind: "in-progress", Retry: time.Second,
		Text: "The same call is being carried out at this moment."}
)

// do calls send, or returns what it returned when the app called with the same key before.
func (o *once) do(app, key string, body []byte, send func() (any, error)) (any, error) {
	if key == "" {
		return send()
	}
	s, answer, err := o.begin(app, sha256.Sum256([]byte(key)), sha256.Sum256(body))
	if s == nil {
		return answer, err
	}
	done := false
	defer func() {
		if !done {
			o.drop(app, s)
		}
	}()
	if answer, err = send(); err != nil {
		return nil, err
	}
	done = true
	o.mu.Lock()
	defer o.mu.Unlock()
	s.answer = answer
	return answer, nil
}

// begin takes note of a call that is new; else it returns the answer, or why there is none.
func (o *once) begin(app string, key, body [32]byte) (fresh *sent, answer any, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	o.sweepLocked(now)
	by := o.apps[app]
	if by != nil {
		if s := by.byKey[key]; s != nil && now.Sub(s.time) < onceLife {
			switch {
			case s.body != body:
				return nil, nil, errKeyReused
			case s.answer == nil:
				return nil, nil, errInProgress
			}
			return nil, s.answer, nil
		}
	}
	o.makeRoomLocked(by)
	if by = o.apps[app]; by == nil {
		by = &sentBy{byKey: map[[32]byte]*sent{}}
		o.apps[app] = by
	}
	s := &sent{key: key, body: body, time: now}
	by.byKey[key] = s
	by.order = append(by.order, s)
	o.total++
	return s, nil, nil
}

// makeRoomLocked forgets the app's oldest call if it has all it may, or that of who has most if all are too many.
func (o *once) makeRoomLocked(by *sentBy) {
	if by != nil && len(by.order) >= onceApp {
		o.popLocked(by)
	}
	if o.total < onceAll {
		return
	}
	var most *sentBy
	for _, b := range o.apps {
		if most == nil || len(b.order) > len(most.order) {
			most = b
		}
	}
	o.popLocked(most)
}

func (o *once) popLocked(by *sentBy) {
	s := by.order[0]
	by.order[0] = nil
	by.order = by.order[1:]
	if by.byKey[s.key] == s {
		delete(by.byKey, s.key)
	}
	o.total--
}

// drop forgets a call that sent nothing.
func (o *once) drop(app string, s *sent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if by := o.apps[app]; by != nil && by.byKey[s.key] == s {
		delete(by.byKey, s.key) // its place in the order goes with its time
	}
}

// sweepLocked forgets what is over.
func (o *once) sweepLocked(now time.Time) {
	if now.Sub(o.swept) < onceSweep {
		return
	}
	o.swept = now
	for app, by := range o.apps {
		for len(by.order) > 0 && now.Sub(by.order[0].time) >= onceLife {
			o.popLocked(by)
		}
		if len(by.order) == 0 {
			delete(o.apps, app)
		}
	}
}
