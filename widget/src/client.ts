// The web chat contract over HTTP.

const SECONDS = 35; // the server itself answers within 15 seconds, or apologizes

/** A call that failed. */
export class Failure extends Error {
  /**
   * @param status HTTP status; 0 if the server was not reached.
   * @param code the contract's error code.
   * @param wait seconds that the server asks to wait; 0 if it does not say.
   */
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly wait = 0,
  ) {
    super(message);
  }
}

export class Client {
  token = "";

  /** @param server address of the web chat, without a slash at the end. */
  constructor(readonly server: string) {}

  /** Call the server and return what it says. Throws Failure. */
  async call<Answer>(method: string, path: string, body?: object): Promise<Answer> {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), SECONDS * 1000);
    const headers: Record<string, string> = {};
    if (this.token) headers["Authorization"] = `Bearer ${this.token}`;
    if (body) headers["Content-Type"] = "application/json";
    try {
      const response = await fetch(this.server + path, {
        method,
        headers,
        credentials: "omit",
        cache: "no-store",
        signal: stop.signal,
        ...(body && { body: JSON.stringify(body) }),
      });
      const answer = response.status === 204 ? {} : await response.json().catch(() => ({}));
      if (response.ok) return answer as Answer;
      throw new Failure(
        response.status,
        answer.error?.code ?? "refused",
        answer.error?.message ?? "",
        Number(response.headers.get("Retry-After")) || 0,
      );
    } catch (error) {
      if (error instanceof Failure) throw error;
      throw new Failure(0, "unreachable", "");
    } finally {
      clearTimeout(timer);
    }
  }
}
