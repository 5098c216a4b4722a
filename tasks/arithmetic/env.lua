-- Addition with the work shown: "47+85=" asks for "7+5=12 4+8+1=13 132".
--
-- Digits are added from the right, each with the carry if there is one, and the sum follows. Half
-- of the reward is for the steps, as far as they are right from the left, and half for the sum,
-- which is the last word of the answer.

local DIGITS = params.digits or 2
local POWER = { [0] = 1 }
for i = 1, DIGITS do
    POWER[i] = 10 * POWER[i - 1]
end

local function sum_of(problem)
    local a, b, text
    repeat
        a = math.random(0, POWER[DIGITS] - 1)
        b = math.random(0, POWER[DIGITS] - 1)
        text = a .. "+" .. b .. "="
    until split(text) == problem.split
    return a, b, text
end

local function digit(n, i)
    return n // POWER[i] % 10
end

-- The worked steps, as a list of words, the sum last.
local function work_of(a, b)
    local word = {}
    local carry = 0
    for i = 0, math.max(#tostring(a), #tostring(b)) - 1 do
        local x, y = digit(a, i), digit(b, i)
        local text = x .. "+" .. y
        if carry > 0 then
            text = text .. "+" .. carry
        end
        local s = x + y + carry
        word[#word + 1] = text .. "=" .. s
        carry = s // 10
    end
    word[#word + 1] = tostring(a + b)
    return word
end

local function prompt(problem)
    local _, _, text = sum_of(problem)
    return text
end

local function demo(problem)
    local a, b = sum_of(problem)
    return table.concat(work_of(a, b), " ")
end

local function score(problem, messages)
    local a, b = sum_of(problem)
    local want = work_of(a, b)
    local got = {}
    for word in messages[#messages].text:gmatch("[^ ]+") do
        got[#got + 1] = word
    end
    local steps = 0
    while steps < #want - 1 and got[steps + 1] == want[steps + 1] do
        steps = steps + 1
    end
    local is_right = got[#got] == want[#want]
    local reward = 0.5 * steps / (#want - 1)
    if is_right then
        reward = reward + 0.5
    end
    return reward, { correct = is_right and 1 or 0, steps = steps / (#want - 1) }
end

return { prompt = prompt, demo = demo, score = score }
