package middleware_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// acceptKey is Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 §4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// writeFrame writes a text frame of at most 125 bytes (RFC 6455 §5.2), masked if it
// comes from the client (§5.3).
func writeFrame(w io.Writer, text string, masked bool) error {
	if len(text) > 125 {
		return errors.New("the text needs a longer frame than this test writes")
	}
	frame := []byte{0x81, byte(len(text))}
	payload := []byte(text)
	if masked {
		mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
		frame[1] |= 0x80
		frame = append(frame, mask[:]...)
		for i := range payload {
			payload[i] ^= mask[i%4]
		}
	}
	_, err := w.Write(append(frame, payload...))
	return err
}

func readFrame(r io.Reader) (string, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", err
	}
	var mask [4]byte
	if head[1]&0x80 != 0 {
		if _, err := io.ReadFull(r, mask[:]); err != nil {
			return "", err
		}
	}
	payload := make([]byte, head[1]&0x7f)
	if _, err := io.ReadFull(r, payload); err != nil {
		return "", err
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	if head[0] != 0x81 {
		return "", fmt.Errorf("not a text frame: %#x", head[0])
	}
	return string(payload), nil
}

// upgrade is the server's side of a WebSocket, which answers each text with reply's.
func upgrade(w http.ResponseWriter, r *http.Request, reply func(string) string) error {
	if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-WebSocket-Version") != "13" {
		return errors.New("not a handshake")
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "", http.StatusInternalServerError)
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", acceptKey(r.Header.Get("Sec-WebSocket-Key"))); err != nil {
		return err
	}
	for {
		text, err := readFrame(buffered)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = writeFrame(conn, reply(text), false)
		}
		if err != nil {
			return err
		}
	}
}

// dial does the client's side of the handshake.
func dial(t testing.TB, r *http.Request) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(r.Context(), "tcp", r.URL.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	r.Method = http.MethodGet
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==") // RFC 6455 §1.3
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	read := bufio.NewReader(conn)
	resp, err := http.ReadResponse(read, r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("the handshake was answered with %s, %v", resp.Status, resp.Header)
	}
	return conn, read
}

// Tokens are obtained, and what changes is stored, after the connection has been
// taken from the server.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	cache, server := newCache(t, store, "https://login.example"), newAuthority()
	ticket := server.signIn(t, cache, "alice")
	for _, site := range sites(t, cache, ticket) {
		ended := make(chan error, 1)
		s := serve(t, site.around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ended <- upgrade(w, r, func(text string) string {
				scope, ok := strings.CutPrefix(text, "token for ")
				if !ok {
					return text
				}
				token, err := ask(r, cache, server, scope)
				if err != nil {
					return err.Error()
				}
				return token
			})
		})))
		conn, read := dial(t, newRequest(t, s, site.cookie, nil))
		exchange := func(text string) string {
			t.Helper()
			if err := writeFrame(conn, text, true); err != nil {
				t.Fatal(err)
			}
			got, err := readFrame(read)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		if got := exchange("hello"); got != "hello" {
			t.Errorf("%s: the echo is %q", site.name, got)
		}
		scope := "read." + site.name
		token := exchange("token for " + scope)
		if !strings.HasPrefix(token, "alice: "+scope) {
			t.Errorf("%s: got %q", site.name, token)
		}
		if got := stored(t, store, cache, ticket.Key(), scope); got != token {
			t.Errorf("%s: stored is %q, served was %q", site.name, got, token)
		}
		if got := exchange("token for " + scope); got != token {
			t.Errorf("%s: then %q, want the same again", site.name, got)
		}
		_ = conn.Close()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", site.name, err)
		}
	}
}
