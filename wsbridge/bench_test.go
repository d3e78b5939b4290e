package wsbridge_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/websocket"
)

// BenchmarkRequest is a status update and its answer on one socket, beside an echo of the same frame by the
// library alone.
func BenchmarkRequest(b *testing.B) {
	frame := `{"status":"online","id":1}`
	b.Run("floor", func(b *testing.B) {
		s := httptest.NewServer(http.HandlerFunc(idleLibrary))
		defer s.Close()
		ws, _, err := websocket.DefaultDialer.Dial("ws"+s.URL[len("http"):], nil)
		if err != nil {
			b.Fatal(err)
		}
		defer ws.Close()
		roundTrips(b, ws, frame)
	})
	b.Run("bridge", func(b *testing.B) {
		f := newFixture(b)
		ws, _, err := websocket.DefaultDialer.Dial(f.url(), nil)
		f.must(err)
		defer ws.Close()
		f.must(ws.WriteMessage(websocket.TextMessage, []byte(`{"email":"ann@example.org","assertion":"dev","status":"online"}`)))
		_, _, err = ws.ReadMessage()
		f.must(err)
		roundTrips(b, ws, frame)
	})
}

func roundTrips(b *testing.B, ws *websocket.Conn, frame string) {
	b.ReportAllocs()
	for b.Loop() {
		if err := ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
			b.Fatal(err)
		}
		_, r, err := ws.NextReader()
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, r)
	}
}
