// The balance look-up on net/http, golang-jwt and the official driver, as their users write it.
// Reads PORT, MONGODB_URI, MONGODB_DATABASE, JWKS_FILE, ISSUER and AUDIENCE.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log"
	"math/big"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/golang-jwt/jwt"
	"go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/mongo"
	"go.mongodb.org/mongo-driver/mongo/options"
)

const shown = "2006-01-02T15:04:05.000-07:00"

// A figure that is older says so.
const oldAfter = 48 * time.Hour

var (
	china             = time.FixedZone("", 8*3600)
	sessionProjection = options.FindOne().SetProjection(bson.D{{"holderId", 1}, {"endedAt", 1}, {"idleUntil", 1}, {"expiresAt", 1}})
	cardProjection    = options.FindOne().SetProjection(bson.D{{"accounts", 1}, {"medical", 1}})
	errUnauthorized   = errors.New("unauthorized")
)

type claims struct {
	SessionID string `json:"sid"`
	jwt.RegisteredClaims
}

type session struct {
	HolderID  string     `bson:"holderId"`
	EndedAt   *time.Time `bson:"endedAt"`
	IdleUntil time.Time  `bson:"idleUntil"`
	ExpiresAt time.Time  `bson:"expiresAt"`
}

type account struct {
	Account    string    `bson:"account"`
	BalanceFen int64     `bson:"balanceFen"`
	Status     string    `bson:"status"`
	AsOf       time.Time `bson:"asOf"`
	Source     string    `bson:"source"`
}

type card struct {
	Medical  string    `bson:"medical"`
	Accounts []account `bson:"accounts"`
}

type figureView struct {
	Account    string `json:"account"`
	BalanceFen int64  `json:"balanceFen"`
	Display    string `json:"display"`
	Currency   string `json:"currency"`
	Status     string `json:"status"`
	AsOf       string `json:"asOf"`
	Source     string `json:"source"`
	Stale      bool   `json:"stale"`
}

type balanceView struct {
	CardID string       `json:"cardId"`
	AsOf   string       `json:"asOf"`
	Items  []figureView `json:"items"`
}

type server struct {
	sessions *mongo.Collection
	cards    *mongo.Collection
	parser   *jwt.Parser
	keys     map[string]*ecdsa.PublicKey
	issuer   string
	audience string
}

// holder is who asks: a verified token whose session is alive.
func (s *server) holder(request *http.Request) (string, error) {
	scheme, token, found := strings.Cut(request.Header.Get("Authorization"), " ")
	if !found || !strings.EqualFold(scheme, "bearer") {
		return "", errUnauthorized
	}
	var told claims
	if _, err := s.parser.ParseWithClaims(token, &told, s.key); err != nil {
		return "", errUnauthorized
	}
	if !told.VerifyIssuer(s.issuer, true) || !told.VerifyAudience(s.audience, true) || told.ExpiresAt == nil || told.IssuedAt == nil {
		return "", errUnauthorized
	}
	var kept session
	err := s.sessions.FindOne(request.Context(), bson.D{{"_id", told.SessionID}}, sessionProjection).Decode(&kept)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return "", errUnauthorized
	}
	if err != nil {
		return "", err
	}
	now := time.Now()
	if kept.EndedAt != nil || kept.HolderID != told.Subject || !kept.IdleUntil.After(now) || !kept.ExpiresAt.After(now) {
		return "", errUnauthorized
	}
	return kept.HolderID, nil
}

func (s *server) key(token *jwt.Token) (interface{}, error) {
	kid, _ := token.Header["kid"].(string)
	key, found := s.keys[kid]
	if !found || token.Header["typ"] != "at+jwt" {
		return nil, errUnauthorized
	}
	return key, nil
}

// balance serves GET /v1/cards/{cardId}/balance.
func (s *server) balance(writer http.ResponseWriter, request *http.Request) {
	cardID := strings.TrimPrefix(request.URL.Path, "/v1/cards/")
	if !strings.HasSuffix(cardID, "/balance") {
		answer(writer, http.StatusNotFound, map[string]string{"code": "not_found"})
		return
	}
	cardID = strings.TrimSuffix(cardID, "/balance")
	if request.Method != http.MethodGet {
		answer(writer, http.StatusMethodNotAllowed, map[string]string{"code": "method_not_allowed"})
		return
	}
	holderID, err := s.holder(request)
	if errors.Is(err, errUnauthorized) {
		writer.Header().Set("WWW-Authenticate", "Bearer")
		answer(writer, http.StatusUnauthorized, map[string]string{"code": "unauthenticated"})
		return
	}
	if err != nil {
		answer(writer, http.StatusServiceUnavailable, map[string]string{"code": "unavailable"})
		return
	}
	var found card
	err = s.cards.FindOne(request.Context(), bson.D{{"_id", cardID}, {"holderId", holderID}}, cardProjection).Decode(&found)
	if errors.Is(err, mongo.ErrNoDocuments) {
		answer(writer, http.StatusNotFound, map[string]string{"code": "not_found"})
		return
	}
	if err != nil {
		answer(writer, http.StatusServiceUnavailable, map[string]string{"code": "unavailable"})
		return
	}
	answer(writer, http.StatusOK, view(cardID, found))
}

func view(cardID string, found card) balanceView {
	oldest := time.Now()
	oldBefore := oldest.Add(-oldAfter)
	items := make([]figureView, 0, len(found.Accounts))
	for _, item := range found.Accounts {
		if item.AsOf.Before(oldest) {
			oldest = item.AsOf
		}
		status := item.Status
		if item.Account == "medical" {
			status = found.Medical
		}
		items = append(items, figureView{item.Account, item.BalanceFen, display(item.BalanceFen), "CNY", status, show(item.AsOf), item.Source, item.AsOf.Before(oldBefore)})
	}
	return balanceView{cardID, show(oldest), items}
}

func answer(writer http.ResponseWriter, status int, body interface{}) {
	writer.Header().Set("Content-Type", "application/json")
	writer.WriteHeader(status)
	if err := json.NewEncoder(writer).Encode(body); err != nil {
		log.Print(err)
	}
}

// show writes a time at +08:00 with milliseconds.
func show(moment time.Time) string {
	return moment.In(china).Format(shown)
}

// display makes 1,234.56 of 123456 fen.
func display(fen int64) string {
	sign := ""
	if fen < 0 {
		sign, fen = "-", -fen
	}
	yuan := strconv.FormatInt(fen/100, 10)
	for place := len(yuan) - 3; place > 0; place -= 3 {
		yuan = yuan[:place] + "," + yuan[place:]
	}
	rest := strconv.FormatInt(fen%100, 10)
	if len(rest) < 2 {
		rest = "0" + rest
	}
	return sign + yuan + "." + rest
}

func readKeys(path string) (map[string]*ecdsa.PublicKey, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys []struct{ Kid, X, Y string }
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, err
	}
	keys := map[string]*ecdsa.PublicKey{}
	for _, key := range set.Keys {
		x, err := base64.RawURLEncoding.DecodeString(key.X)
		if err != nil {
			return nil, err
		}
		y, err := base64.RawURLEncoding.DecodeString(key.Y)
		if err != nil {
			return nil, err
		}
		keys[key.Kid] = &ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).SetBytes(x), Y: new(big.Int).SetBytes(y)}
	}
	return keys, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	keys, err := readKeys(os.Getenv("JWKS_FILE"))
	if err != nil {
		log.Fatal(err)
	}
	client, err := mongo.Connect(ctx, options.Client().ApplyURI(os.Getenv("MONGODB_URI")))
	if err != nil {
		log.Fatal(err)
	}
	database := client.Database(os.Getenv("MONGODB_DATABASE"))
	s := &server{
		sessions: database.Collection("sessions"),
		cards:    database.Collection("cards"),
		parser:   jwt.NewParser(jwt.WithValidMethods([]string{"ES256"})),
		keys:     keys,
		issuer:   os.Getenv("ISSUER"),
		audience: os.Getenv("AUDIENCE"),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/cards/", s.balance)
	listener := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = listener.Shutdown(context.Background())
	}()
	if err := listener.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	_ = client.Disconnect(context.Background())
}
