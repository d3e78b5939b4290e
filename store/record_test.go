package store

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"presenced/presence"
)

func anyNotification(t *rapid.T) presence.Notification {
	text := rapid.StringN(0, 300, -1)
	at := rapid.Custom(func(t *rapid.T) time.Time {
		return moment(rapid.Int64Range(0, maxSeconds*int64(time.Second)).Draw(t, "ns"))
	})
	n := presence.Notification{
		Seq: rapid.Uint64().Draw(t, "seq"), Email: text.Draw(t, "email"), Device: text.Draw(t, "device"), App: text.Draw(t, "app"),
		PUID: text.Draw(t, "puid"), Ref: text.Draw(t, "ref"), From: text.Draw(t, "from"), Receipt: rapid.Bool().Draw(t, "receipt"),
		Source: text.Draw(t, "source"), Message: text.Draw(t, "message"), Action: text.Draw(t, "action"),
		High: rapid.Bool().Draw(t, "high"), Collapse: text.Draw(t, "collapse"), Time: at.Draw(t, "time"), Expires: at.Draw(t, "expires"),
	}
	if rapid.Bool().Draw(t, "has data") {
		n.Data = append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data")...)
	}
	return n
}

func TestRecordComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := anyNotification(t)
		b := appendRecord([]byte("before"), &n)[len("before"):]
		if len(b) > recordSize(&n) {
			t.Fatalf("%d bytes, bound %d", len(b), recordSize(&n))
		}
		got, err := readRecord(n.Seq, b)
		if err != nil || !reflect.DeepEqual(got, n) {
			t.Fatalf("%+v (%v), want %+v", got, err, n)
		}
		want := presence.Notification{Seq: n.Seq, Email: n.Email, App: n.App, Device: n.Device, PUID: n.PUID, Ref: n.Ref, From: n.From, Receipt: n.Receipt}
		if got, err := readReceipt(n.Seq, b); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v (%v), want %+v", got, err, want)
		}
		cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
		if _, err := readRecord(n.Seq, b[:cut]); !errors.Is(err, errDamaged) {
			t.Fatalf("cut to %d of %d bytes: %v", cut, len(b), err)
		}
	})
}

// TestRecordVersion1 fixes the bytes: files that exist must stay readable.
func TestRecordVersion1(t *testing.T) {
	n := presence.Notification{Email: "e", App: "a", Device: "d", Collapse: "c", PUID: "p", Ref: "r", From: "f", Source: "s",
		Message: "mm", Action: "x", Data: []byte("1"), Receipt: true, High: true, Time: time.Unix(0, 1), Expires: time.Unix(0, 258)}
	want := []byte("\x01\x07\x00\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x00\x00\x00\x01\x01e\x01a\x01d\x01c\x01p\x01r\x01f\x01s\x02mm\x01x\x011")
	if got := appendRecord(nil, &n); !bytes.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTimesInKeysSort(t *testing.T) {
	times := []time.Time{{}, time.Unix(-5, 7), time.Unix(-5, 8), time.Unix(0, 0), time.Unix(0, 1), time.Unix(1<<33, 0), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}
	var last []byte
	for _, at := range times {
		k := appendTime(nil, at)
		if bytes.Compare(last, k) >= 0 {
			t.Errorf("%v does not sort behind what is earlier", at)
		}
		if got := readTime(k); !got.Equal(at) || at.IsZero() != got.IsZero() {
			t.Errorf("%v came back as %v", at, got)
		}
		last = k
	}
}

// FuzzRecord: no bytes make the reader panic, and what it accepts it would write in the same way, but for a longer
// form of a length.
func FuzzRecord(f *testing.F) {
	for _, n := range []presence.Notification{{}, {Email: "ann@example.org", App: "chat", Message: "hello", Data: []byte("{}"), Receipt: true, Time: time.Unix(1, 2)}} {
		f.Add(appendRecord(nil, &n))
	}
	f.Add([]byte{1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := readRecord(1, b)
		if err != nil {
			return
		}
		again, err := readRecord(1, appendRecord(nil, &n))
		if err != nil || !reflect.DeepEqual(again, n) {
			t.Errorf("%+v became %+v (%v)", n, again, err)
		}
	})
}
